// Package protocol is what goes over the wire: how a request ends, what the
// answer is, and the bounded buffer that holds a request until it has ended.
//
// Every lesson speaks exactly this protocol, so that the five servers differ
// in how they wait and in nothing else.
package protocol

// MaxRequest is the most bytes a request may have, its terminator included.
// One byte more without a terminator, and the request is refused.
const MaxRequest = 8 << 10

// Response is the answer to every request, byte for byte that of the
// tutorial. It is written as it stands and must not be changed.
var Response = []byte("HTTP/1.0 200 OK\r\n" +
	"Date: Mon, 1 Jan 1996 01:01:01 GMT\r\n" +
	"Content-Type: text/plain\r\n" +
	"Content-Length: 13\r\n" +
	"\r\n" +
	"Hello, world!")

// TooLarge is the answer to a request that is over MaxRequest: status 431 of
// RFC 6585, section 5. It must not be changed either.
var TooLarge = []byte("HTTP/1.0 431 Request Header Fields Too Large\r\n" +
	"Content-Type: text/plain\r\n" +
	"Content-Length: 23\r\n" +
	"\r\n" +
	"The request is too big.")

// A Status says how far a request has come.
type Status int

const (
	Incomplete Status = iota // no terminator yet: read on
	Complete                 // "\n\n" or "\n\r\n" has been seen: answer
	Oversize                 // more than MaxRequest bytes and no terminator: refuse
)

// progress says how much of a terminator the last bytes were.
//
//	state      next byte '\n'   '\r'       any other
//	nothing    lf               nothing    nothing
//	lf         ended            lfcr       nothing
//	lfcr       ended            nothing    nothing
//
// One state is carried from read to read, so a terminator may be cut into
// segments anywhere, and no byte is looked at twice.
type progress byte

const (
	nothing progress = iota
	lf               // the last byte was "\n"
	lfcr             // the last two bytes were "\n\r"
)

// A Request collects the bytes of one request. The zero value is ready.
type Request struct {
	bytes []byte
	seen  progress
}

// Add takes the next bytes that were received and says how far the request
// has come. It copies what belongs to the request, at most MaxRequest bytes;
// what follows the terminator (a body, a second request) it leaves alone. Its
// cost is linear in len(p). After Complete or Oversize, Add must not be
// called again before Reset.
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

// Bytes is what has been collected, through the terminator if it has come.
// It is valid until the next Add or Reset.
func (r *Request) Bytes() []byte { return r.bytes }

// Reset empties the request and keeps its memory for the next one.
func (r *Request) Reset() {
	r.bytes = r.bytes[:0]
	r.seen = nothing
}

// maxSpare bounds what a Pool keeps: 64 requests of at most 8 KiB, 512 KiB.
const maxSpare = 64

// A Pool lends Requests, so that a connection has one only while a request
// is arriving: an idle connection holds none, and a busy server allocates
// none. The zero value is ready. It is not safe for concurrent use.
type Pool struct{ spare []*Request }

// Get lends an empty Request.
func (p *Pool) Get() *Request {
	if len(p.spare) == 0 {
		return new(Request)
	}
	last := len(p.spare) - 1
	r := p.spare[last]
	p.spare = p.spare[:last]
	return r
}

// Put takes r back. A burst of unfinished requests leaves more than anyone
// will need again: what is over maxSpare goes to the garbage collector.
func (p *Pool) Put(r *Request) {
	if len(p.spare) < maxSpare {
		r.Reset()
		p.spare = append(p.spare, r)
	}
}

// AppendPrintable appends p to dst in a form that is safe to show on a
// terminal. Line ends ("\n" and "\r\n") become "\n"; printable ASCII stands
// for itself, a backslash is doubled; every other byte, the escape that starts
// a terminal's control sequences among them, becomes \xNN.
func AppendPrintable(dst, p []byte) []byte {
	const hex = "0123456789abcdef"
	for i, b := range p {
		switch {
		case b == '\n':
			dst = append(dst, '\n')
		case b == '\r' && i+1 < len(p) && p[i+1] == '\n':
			// half of a line end: the "\n" that follows stands for both
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
