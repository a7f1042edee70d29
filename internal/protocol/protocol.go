// Package protocol defines the bytes on the wire: how a request ends, what the
// response is, and the bounded buffer that holds a request until it has ended.
//
// Every lesson speaks exactly this protocol, so that the five servers differ
// only in how they wait.
package protocol

// MaxRequest bounds the size of a request in bytes, its terminator included.
// A request with one byte more and no terminator is refused.
const MaxRequest = 8 << 10

// Response answers every request. It has the bytes of the tutorial's response, and
// must not be changed.
var Response = []byte("HTTP/1.0 200 OK\r\n" +
	"Date: Mon, 1 Jan 1996 01:01:01 GMT\r\n" +
	"Content-Type: text/plain\r\n" +
	"Content-Length: 13\r\n" +
	"\r\n" +
	"Hello, world!")

// TooLarge answers a request over MaxRequest: status 431 of RFC 6585, section 5. It
// must not be changed either.
var TooLarge = []byte("HTTP/1.0 431 Request Header Fields Too Large\r\n" +
	"Content-Type: text/plain\r\n" +
	"Content-Length: 23\r\n" +
	"\r\n" +
	"The request is too big.")

// A Status reports how far a request has arrived.
type Status int

const (
	Incomplete Status = iota // no terminator yet: continue reading
	Complete                 // "\n\n" or "\n\r\n" has been seen: answer
	Oversize                 // more than MaxRequest bytes and no terminator: refuse
)

// progress records how much of a terminator the last bytes were.
//
//	state      next byte '\n'   '\r'       any other
//	nothing    lf               nothing    nothing
//	lf         ended            lfcr       nothing
//	lfcr       ended            nothing    nothing
//
// The state is kept from read to read, so a terminator may be cut into segments
// anywhere, and no byte is looked at twice.
type progress byte

const (
	nothing progress = iota
	lf               // the last byte was "\n"
	lfcr             // the last two bytes were "\n\r"
)

// A Request collects the bytes of one request. The zero value is ready to use.
type Request struct {
	bytes []byte
	seen  progress
}

// Add adds the next bytes received and reports how far the request has arrived.
// It copies what belongs to the request, at most MaxRequest bytes, and ignores
// what follows the terminator (a body, a second request). Its cost is linear in
// len(p). After Complete or Oversize, Add must not be called again before Reset.
func (r *Request) Add(p []byte) Status {
	room := MaxRequest - len(r.bytes)
	for i, b := range p[:min(len(p), room)] {
		switch {
		case b == '\n' && r.seen != nothing:
			r.bytes = append(r.bytes, p[:i+1]...)
			return Complete
		case b == '\n':
			r.seen = lf
		case b == '\r' && r.seen == lf:
			r.seen = lfcr
		default:
			r.seen = nothing
		}
	}
	if len(p) > room {
		r.bytes = append(r.bytes, p[:room]...)
		return Oversize
	}
	r.bytes = append(r.bytes, p...)
	return Incomplete
}

// Bytes returns what has been collected, up to and including the terminator. The
// slice is valid until the next Add or Reset.
func (r *Request) Bytes() []byte { return r.bytes }

// Reset empties the request but keeps its memory for the next one.
func (r *Request) Reset() {
	r.bytes = r.bytes[:0]
	r.seen = nothing
}

// maxSpare bounds what a Pool keeps: 64 requests of at most 8 KiB, so 512 KiB.
const maxSpare = 64

// A Pool hands out Requests, so that a connection has one only while a request
// is arriving: an idle connection has none, and a busy server allocates none.
// The zero value is ready to use. A Pool is not safe for concurrent use.
type Pool struct{ spare []*Request }

// Get returns an empty Request.
func (p *Pool) Get() *Request {
	if len(p.spare) == 0 {
		return new(Request)
	}
	last := len(p.spare) - 1
	r := p.spare[last]
	p.spare = p.spare[:last]
	return r
}

// Put returns r to the pool. If the pool is full, as after a burst of unfinished
// requests, r is left to the garbage collector.
func (p *Pool) Put(r *Request) {
	if len(p.spare) < maxSpare {
		r.Reset()
		p.spare = append(p.spare, r)
	}
}

// AppendPrintable appends p to dst in a form that is safe to show on a terminal.
// Line ends ("\n" and "\r\n") become "\n"; printable ASCII stays, a backslash is
// doubled; every other byte becomes \xNN, including ESC, with which a terminal's
// control sequences start.
func AppendPrintable(dst, p []byte) []byte {
	const hex = "0123456789abcdef"
	for i, b := range p {
		switch {
		case b == '\n':
			dst = append(dst, '\n')
		case b == '\r' && i+1 < len(p) && p[i+1] == '\n':
			// half of a line end: the "\n" that follows represents both
		case b == '\\':
			dst = append(dst, '\\', '\\')
		case b >= ' ' && b <= '~':
			dst = append(dst, b)
		default:
			dst = append(dst, '\\', 'x', hex[b>>4], hex[b&0xf])
		}
	}
	return dst
}
