//go:build linux

package simulated_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lesson/internal/kernel"
	"lesson/internal/kernel/simulated"
	"lesson/internal/observe/sockets"
)

// A machine runs the calls of a vector: Linux, or the simulated kernel.
type machine interface {
	kernel.Kernel
	Dup(fd int) (int, error)
	Eventfd(initial uint, flags int) (int, error)
	Write(fd int, p []byte) (int, error)

	connect(client string, port uint16)
	send(client string, n int) string
	halfClose(client string) string
	closeClient(client string)
	reset(client string)
	// read reads once. It waits for something to read if something is expected.
	read(client string, n int, expected bool) string
	// drain reads until so many bytes have been read.
	drain(client string, n int)
	// waits is how long to wait for an event that is expected.
	waits() time.Duration
	// settle returns when what the clients have done has reached the server.
	settle()
	end()
}

func TestVectorsOnTheSimulatedKernel(t *testing.T) {
	for _, v := range simulated.Vectors() {
		t.Run(v.Rule, func(t *testing.T) { run(t, v, newInMemory()) })
	}
}

func TestVectorsOnLinux(t *testing.T) {
	for _, v := range simulated.Vectors() {
		t.Run(v.Rule, func(t *testing.T) { run(t, v, newOnLinux()) })
	}
}

func TestThereAreEnoughVectors(t *testing.T) {
	if n := len(simulated.Vectors()); n < 80 {
		t.Errorf("%d vectors, want at least 80", n)
	}
}

var bits = map[string]uint32{
	"IN": unix.EPOLLIN, "OUT": unix.EPOLLOUT, "ERR": unix.EPOLLERR, "HUP": unix.EPOLLHUP,
	"RDHUP": unix.EPOLLRDHUP, "ET": unix.EPOLLET, "ONESHOT": unix.EPOLLONESHOT,
	"EXCLUSIVE": unix.EPOLLEXCLUSIVE,
}

// bitOrder is the order in which a vector writes events.
var bitOrder = []string{"IN", "OUT", "ERR", "HUP", "RDHUP"}

func mask(text string) uint32 {
	var m uint32
	for _, word := range strings.Split(text, "|") {
		m |= bits[word]
	}
	return m
}

func maskText(m uint32) string {
	var words []string
	for _, b := range bitOrder {
		if m&bits[b] != 0 {
			words = append(words, b)
		}
	}
	return strings.Join(words, "|")
}

// A player plays one vector.
type player struct {
	t       *testing.T
	machine machine
	fds     map[string]int
	names   []string // the data of an entry is an index into it
	port    uint16   // of the last listener
	filled  int
	open    []int
}

func run(t *testing.T, v simulated.Vector, m machine) {
	if at, got := play(t, v.Lines, m); at >= 0 {
		t.Fatalf("vectors.txt:%d: %s\ngot %q", v.Line+at+1, v.Lines[at], got)
	}
}

// play plays the lines of a vector. It returns the first that has another result, and
// that result; -1 if there is none.
func play(t *testing.T, lines []string, m machine) (at int, got string) {
	p := newPlayer(t, m)
	defer p.end()
	for i, line := range lines {
		name, words, want, err := simulated.ParseCall(line)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.do(name, words, want); got != want {
			return i, got
		}
	}
	return -1, ""
}

func newPlayer(t *testing.T, m machine) *player {
	return &player{t: t, machine: m, fds: map[string]int{}}
}

// end closes what the lines have left open.
func (p *player) end() {
	for _, fd := range p.open {
		_ = p.machine.Close(fd) // there is nothing more to do with it
	}
	p.machine.end()
}

// do makes one call and returns its result as a vector writes it.
func (p *player) do(name string, words []string, want string) string {
	m := p.machine
	if name != "" {
		return p.create(name, words)
	}
	if who := words[0]; len(who) == 1 && who >= "a" && who <= "z" {
		return p.act(who, words[1:], want)
	}
	m.settle()
	fd := p.fds[words[1]]
	number := func(i int) int {
		n, err := strconv.Atoi(words[i])
		if err != nil {
			p.t.Fatal(err)
		}
		return n
	}
	switch words[0] {
	case "add", "mod", "del":
		op := map[string]int{
			"add": unix.EPOLL_CTL_ADD, "mod": unix.EPOLL_CTL_MOD, "del": unix.EPOLL_CTL_DEL,
		}[words[0]]
		event := unix.EpollEvent{Fd: int32(len(p.names))}
		p.names = append(p.names, words[2])
		if op != unix.EPOLL_CTL_DEL {
			event.Events = mask(words[3])
		}
		return result(0, m.EpollCtl(fd, op, p.fds[words[2]], event), "")
	case "wait":
		most := 16
		if len(words) > 2 {
			most = number(3)
		}
		return p.wait(fd, most, want != "")
	case "accept":
		n, err := m.Accept4(fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		return result(n, err, strconv.Itoa(n))
	case "read":
		n, err := m.Read(fd, make([]byte, number(2)))
		return result(n, err, strconv.Itoa(n))
	case "write":
		n, err := m.Write(fd, binary.NativeEndian.AppendUint64(nil, uint64(number(2))))
		return result(n, err, strconv.Itoa(n))
	case "send":
		n, err := m.Send(fd, make([]byte, number(2)), unix.MSG_NOSIGNAL)
		if want == "" {
			p.t.Fatal("send without a result")
		}
		return result(n, err, strconv.Itoa(n))
	case "fill":
		p.fill(fd)
		return ""
	case "shutdown":
		how := map[string]int{"RD": unix.SHUT_RD, "WR": unix.SHUT_WR, "RDWR": unix.SHUT_RDWR}[words[2]]
		return result(0, m.Shutdown(fd, how), "")
	case "close":
		p.open = slices.DeleteFunc(p.open, func(open int) bool { return open == fd })
		return result(0, m.Close(fd), "")
	case "lowat":
		return result(0, m.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVLOWAT, number(2)), "")
	}
	p.t.Fatalf("no call %q", words[0])
	return ""
}

func (p *player) create(name string, words []string) string {
	m := p.machine
	var fd int
	var err error
	switch words[0] {
	case "listen":
		fd, err = m.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err == nil {
			err = m.Bind(fd, netip.MustParseAddrPort("127.0.0.1:0"))
		}
		if err == nil {
			err = m.Listen(fd, 16)
		}
		var addr netip.AddrPort
		if err == nil {
			addr, err = m.Getsockname(fd)
			p.port = addr.Port()
		}
	case "socket":
		fd, err = m.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	case "accept":
		m.settle()
		fd, err = m.Accept4(p.fds[words[1]], unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
	case "epoll":
		fd, err = m.EpollCreate1(unix.EPOLL_CLOEXEC)
	case "eventfd":
		fd, err = m.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	case "dup":
		fd, err = m.Dup(p.fds[words[1]])
	default:
		p.t.Fatalf("nothing is made by %q", words[0])
	}
	if err != nil {
		return err.Error()
	}
	p.fds[name] = fd
	p.open = append(p.open, fd)
	return ""
}

func (p *player) act(who string, words []string, want string) string {
	m := p.machine
	number := 0
	if len(words) > 1 {
		n, err := strconv.Atoi(words[1])
		if err != nil {
			p.t.Fatal(err)
		}
		number = n
	}
	switch words[0] {
	case "connects":
		m.connect(who, p.port)
	case "sends":
		return m.send(who, number)
	case "half-closes":
		return m.halfClose(who)
	case "closes":
		m.closeClient(who)
	case "resets":
		m.reset(who)
	case "reads":
		return m.read(who, number, want != "nothing")
	case "drains":
		m.drain(who, p.filled)
	default:
		p.t.Fatalf("a client cannot %q", words[0])
	}
	return ""
}

// wait calls epoll_wait until it returns an event, if one is expected, and else once.
func (p *player) wait(fd, most int, expected bool) string {
	var events [16]unix.EpollEvent
	for end := time.Now().Add(p.machine.waits()); ; {
		n, err := p.machine.EpollWait(fd, events[:most], 0)
		if err == unix.EINTR {
			continue
		}
		if n == 0 && expected && time.Now().Before(end) {
			p.machine.settle()
			continue
		}
		var texts []string
		for _, e := range events[:max(n, 0)] {
			texts = append(texts, p.names[e.Fd]+":"+maskText(e.Events))
		}
		return result(n, err, strings.Join(texts, " "))
	}
}

// fill sends until the send buffer stays full.
func (p *player) fill(fd int) {
	chunk := make([]byte, 1000)
	for full := 0; full < 5; {
		n, err := p.machine.Send(fd, chunk, unix.MSG_NOSIGNAL)
		switch err {
		case nil:
			p.filled += n
			full = 0
		case unix.EAGAIN:
			full++
			p.machine.settle()
		default:
			p.t.Fatal(err)
		}
	}
	p.filled = max(p.filled, 0)
}

var errnoNames = map[error]string{
	unix.EAGAIN: "EAGAIN", unix.EBADF: "EBADF", unix.EINVAL: "EINVAL", unix.EEXIST: "EEXIST",
	unix.ENOENT: "ENOENT", unix.EPIPE: "EPIPE", unix.ECONNRESET: "ECONNRESET",
	unix.ENOTCONN: "ENOTCONN",
}

func result(n int, err error, ok string) string {
	if err == nil {
		return ok
	}
	if name, known := errnoNames[err]; known {
		return name
	}
	return err.Error()
}

// inMemory is the simulated kernel.
type inMemory struct {
	*simulated.Kernel
	clients map[string]*simulated.Client
}

func newInMemory() *inMemory {
	return &inMemory{simulated.New(simulated.Options{}), map[string]*simulated.Client{}}
}

func (m *inMemory) connect(c string, port uint16) { m.clients[c] = m.Connect(c, port) }
func (m *inMemory) send(c string, n int) string {
	return result(0, m.clients[c].Send(make([]byte, n)), "")
}
func (m *inMemory) halfClose(c string) string { return result(0, m.clients[c].HalfClose(), "") }
func (m *inMemory) closeClient(c string)      { m.clients[c].Close() }
func (m *inMemory) reset(c string)            { m.clients[c].Reset() }
func (m *inMemory) settle()                   {}
func (m *inMemory) waits() time.Duration      { return 0 }
func (m *inMemory) end()                      {}

func (m *inMemory) read(c string, n int, _ bool) string {
	p, ended, err := m.clients[c].Read(n)
	return readResult(len(p), ended, err)
}

func (m *inMemory) drain(c string, n int) {
	for n > 0 {
		p, _, err := m.clients[c].Read(n)
		must(err)
		n -= len(p)
		if len(p) == 0 {
			return
		}
	}
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func readResult(n int, ended bool, err error) string {
	switch {
	case err != nil:
		return result(-1, err, "")
	case ended:
		return "end"
	case n == 0:
		return "nothing"
	}
	return strconv.Itoa(n)
}

// onLinux is the kernel of this machine, over loopback.
type onLinux struct {
	kernel.Linux
	clients  map[string]*realClient
	patience time.Duration // for what is expected
	accepted []int         // the server's ends that are open
}

func newOnLinux() *onLinux {
	return &onLinux{clients: map[string]*realClient{}, patience: 2 * time.Second}
}

type realClient struct {
	fd         int
	addr, peer netip.AddrPort // its own, and the server's
	closed     bool
}

func (m *onLinux) Dup(fd int) (int, error) { return unix.Dup(fd) }

func (m *onLinux) Eventfd(initial uint, flags int) (int, error) {
	return unix.Eventfd(initial, flags)
}

func (m *onLinux) Write(fd int, p []byte) (int, error) { return unix.Write(fd, p) }

// Accept4 turns off Nagle's algorithm, which the simulated kernel does not have: a short segment
// would wait until the one before it is acknowledged, for up to 40 ms.
func (m *onLinux) Accept4(fd, flags int) (int, error) {
	n, err := m.Linux.Accept4(fd, flags)
	if err == nil {
		m.accepted = append(m.accepted, n)
		must(unix.SetsockoptInt(n, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1))
	}
	return n, err
}

func (m *onLinux) Close(fd int) error {
	m.accepted = slices.DeleteFunc(m.accepted, func(open int) bool { return open == fd })
	return m.Linux.Close(fd)
}

func (m *onLinux) connect(c string, port uint16) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	must(err)
	must(unix.Connect(fd, &unix.SockaddrInet4{Port: int(port), Addr: [4]byte{127, 0, 0, 1}}))
	must(unix.SetNonblock(fd, true))
	name, err := unix.Getsockname(fd)
	must(err)
	client := &realClient{
		fd:   fd,
		addr: netip.AddrPortFrom(loopback, uint16(name.(*unix.SockaddrInet4).Port)),
		peer: netip.AddrPortFrom(loopback, port),
	}
	m.clients[c] = client
	// The last segment of the handshake may still be on its way.
	m.until(func() bool { return stateOf(client.peer, client.addr) == sockets.Established })
}

var loopback = netip.AddrFrom4([4]byte{127, 0, 0, 1})

// stateOf returns the state of one end of a connection, 0 when the kernel has none any more.
func stateOf(end, other netip.AddrPort) sockets.State {
	s, err := sockets.Connection(end, other)
	if errors.Is(err, sockets.ErrNone) {
		return 0
	}
	must(err)
	return s.State
}

// until waits until something has happened, as long as for what is expected.
func (m *onLinux) until(holds func() bool) {
	for end := time.Now().Add(m.patience); !holds() && time.Now().Before(end); {
		time.Sleep(100 * time.Microsecond)
	}
}

func (m *onLinux) send(c string, n int) string {
	sent, err := unix.SendmsgN(m.clients[c].fd, make([]byte, n), nil, nil, unix.MSG_NOSIGNAL)
	if err == nil && sent != n {
		panic(fmt.Sprintf("sent %d of %d", sent, n))
	}
	return result(sent, err, "")
}

func (m *onLinux) halfClose(c string) string {
	return result(0, unix.Shutdown(m.clients[c].fd, unix.SHUT_WR), "")
}

func (m *onLinux) closeClient(c string) {
	client := m.clients[c]
	must(unix.Close(client.fd))
	client.closed = true
	m.until(func() bool { return ended(client) }) // its socket cannot be asked any more
}

// ended reports whether the server's kernel knows that a client has closed or reset its
// connection.
func ended(c *realClient) bool {
	switch stateOf(c.addr, c.peer) {
	case sockets.FinWait2, sockets.TimeWait:
		return true
	case 0:
		theirs := stateOf(c.peer, c.addr)
		return theirs == 0 || theirs == sockets.TimeWait
	}
	return false
}

func (m *onLinux) reset(c string) {
	must(unix.SetsockoptLinger(m.clients[c].fd, unix.SOL_SOCKET, unix.SO_LINGER,
		&unix.Linger{Onoff: 1, Linger: 0}))
	m.closeClient(c)
}

// settle waits until the server's kernel has acknowledged all that clients sent, and has
// the acknowledgement of what the server sent: the one of its end is an event, too.
func (m *onLinux) settle() {
	for _, c := range m.clients {
		if !c.closed {
			m.acknowledged(c.fd, true)
		}
	}
	for _, fd := range m.accepted {
		m.acknowledged(fd, false) // a client need not take bytes
	}
}

// acknowledged waits until the end that was sent through a socket has been acknowledged,
// and the bytes.
func (m *onLinux) acknowledged(fd int, bytes bool) {
	const finWait1, closed, lastAck, closing = 4, 7, 9, 11 // include/net/tcp_states.h
	for end := time.Now().Add(m.patience); time.Now().Before(end); time.Sleep(100 * time.Microsecond) {
		unacknowledged, err := unix.IoctlGetInt(fd, unix.TIOCOUTQ)
		must(err)
		info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		must(err)
		onItsWay := slices.Contains([]uint8{finWait1, closing, lastAck}, info.State)
		if (unacknowledged == 0 || !bytes) && !onItsWay || info.State == closed {
			return
		}
	}
}

// delivered waits until what the server's end of a client has sent has reached the client.
func (m *onLinux) delivered(client int) {
	local, err := unix.Getsockname(client)
	must(err)
	for _, fd := range m.accepted {
		peer, err := unix.Getpeername(fd)
		if err != nil || peer.(*unix.SockaddrInet4).Port != local.(*unix.SockaddrInet4).Port {
			continue // or the connection has ended
		}
		end := time.Now().Add(m.patience)
		for ; time.Now().Before(end); time.Sleep(100 * time.Microsecond) {
			from, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
			must(err)
			to, err := unix.GetsockoptTCPInfo(client, unix.IPPROTO_TCP, unix.TCP_INFO)
			must(err)
			if to.Bytes_received >= from.Bytes_sent-from.Bytes_retrans {
				return
			}
		}
	}
}

func (m *onLinux) read(c string, n int, expected bool) string {
	patience := 10 * time.Millisecond
	if expected {
		patience = m.patience
	}
	m.delivered(m.clients[c].fd)
	p := make([]byte, n)
	for end := time.Now().Add(patience); ; {
		got, err := unix.Read(m.clients[c].fd, p)
		if err == unix.EAGAIN && time.Now().Before(end) {
			time.Sleep(100 * time.Microsecond)
			continue
		}
		switch {
		case err == unix.EAGAIN:
			return "nothing"
		case err != nil:
			return readResult(0, true, err)
		}
		return readResult(got, got == 0, nil)
	}
}

func (m *onLinux) waits() time.Duration { return m.patience }

func (m *onLinux) drain(c string, n int) {
	p := make([]byte, 1<<16)
	for end := time.Now().Add(m.patience); n > 0 && time.Now().Before(end); {
		got, err := unix.Read(m.clients[c].fd, p)
		if err == unix.EAGAIN {
			time.Sleep(100 * time.Microsecond)
			continue
		}
		must(err)
		n -= got
	}
}

func (m *onLinux) end() {
	for _, c := range m.clients {
		if !c.closed {
			_ = unix.Close(c.fd) // of a test that has ended
		}
	}
}
