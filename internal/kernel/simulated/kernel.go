//go:build linux

// Package simulated is a kernel in memory: TCP sockets with accept queues and buffers,
// descriptors, and epoll, on virtual time. A lesson runs on it unchanged, and does the
// same each time. docs/epoll-semantics.md lists what it promises, and each line there
// is tested on Linux as well.
//
// A Kernel has no goroutines and no clock. While a system call blocks, the Kernel asks
// its World to let a client act; if none does, it moves the time to the next deadline.
// It must be used by one goroutine, except inside Run.
package simulated

import (
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"lesson/internal/words"
)

// Options are the sizes of a simulated machine. A zero field has a default.
type Options struct {
	Descriptors  int // the limit of the process, without pipes and eventfds; 0 is 1024
	SendBuffer   int // of each connection of the server, in bytes; 0 is 4096
	ClientBuffer int // the receive buffer of each client, in bytes; 0 is 4096
	World        World
	Sleep        func(time.Duration) // called as virtual time passes; nil for nothing
}

// A World decides what happens beside the server.
type World interface {
	// Call is called before each system call of the server. Clients may act.
	Call(name string, fd int)
	// Idle is called while a system call blocks. Either a client acts, and Idle
	// returns true, or none wants to before the time has changed.
	Idle() bool
	// Step returns a number for what is being done, by which a Cause names it.
	Step() int
	// Stuck is called when a system call blocks and neither a client nor the time
	// can end it. It must change something, or not return.
	Stuck()
}

// A Cause says what put an entry on the ready list, and in which step.
type Cause struct {
	FD   int
	Text words.Sentence
	Step int
}

// The causes that name nothing.
var (
	causeAdded    = words.Say("added while it was ready")
	causeChanged  = words.Say("changed while it was ready")
	causeReported = words.Say("still ready when it was last reported")
	causeLowWater = words.Say("SO_RCVLOWAT is reached")
	causeWritten  = words.Say("a write to the eventfd")
	causeTaken    = words.Say("a read from the eventfd")
	causeClosed   = words.Say("the client had closed before this")
	causeRoom     = words.Say("the client has read, and the send buffer has room")
	causeShutdown = words.Say("shutdown")
)

// A Kernel implements kernel.Kernel.
type Kernel struct {
	// Why has the cause of each event that epoll_wait returned last.
	Why []Cause

	last     []*entry // that it returned
	options  Options
	files    []*file // by descriptor; nil is free
	sockets  []*socket
	clients  []*Client
	now      time.Duration
	timers   []timer // by time
	calls    int
	changed  int // counts changes of what a call can wait for
	nextPort uint16
	history  Hash    // of what the server has learned: see learn
	given    []given // by number

	scheduler *scheduler // of a program with goroutines; nil for one without
}

// A given number was the descriptor of a client, until it was closed.
type given struct {
	client *Client // nil for none
	closed int     // the step; 0 for not yet
}

type timer struct {
	at     time.Duration
	client *Client // that it is for
	do     func()
}

// A file is an open file description: what dup(2) shares.
type file struct {
	descriptors int // how many refer to it
	socket      *socket
	epoll       *epoll
	counter     *eventfd
	nonblocking bool
	watched     []*entry // the entries of interest lists that watch it
}

func (f *file) poll() uint32 {
	switch {
	case f.epoll != nil:
		return f.epoll.poll()
	case f.socket != nil:
		return f.socket.poll()
	case f.counter != nil:
		return f.counter.poll()
	}
	return 0
}

// begin is the virtual time at the start: not 0, which a server may take for "never".
const begin = time.Second

// New returns a Kernel with the descriptors 0, 1 and 2 in use.
func New(o Options) *Kernel {
	if o.Descriptors == 0 {
		o.Descriptors = 1024
	}
	if o.SendBuffer == 0 {
		o.SendBuffer = 4096
	}
	if o.ClientBuffer == 0 {
		o.ClientBuffer = 4096
	}
	k := &Kernel{options: o, now: begin, nextPort: 40000}
	for range 3 {
		k.files = append(k.files, &file{descriptors: 1, socket: &socket{kernel: k}})
	}
	return k
}

// Calls returns the number of system calls so far.
func (k *Kernel) Calls() int { return k.calls }

// stepNow returns the step that is being done, by which causes are named.
func (k *Kernel) stepNow() int {
	if k.options.World == nil {
		return k.calls
	}
	return k.options.World.Step()
}

// Now returns the virtual time.
func (k *Kernel) Now() time.Duration {
	if k.scheduler != nil && k.scheduler.shared != nil {
		return begin + time.Since(k.scheduler.began)
	}
	return k.now
}

// Open returns how many descriptors are open, besides 0, 1 and 2.
func (k *Kernel) Open() int {
	n := -3
	for _, f := range k.files {
		if f != nil {
			n++
		}
	}
	return n
}

// enter begins a system call, and returns the function that ends it.
func (k *Kernel) enter(name string, fd int) (leave func()) {
	leave = func() {}
	if k.scheduler != nil {
		k.scheduler.take()
		leave = k.scheduler.give
		// A goroutine that never blocks must not keep the others from running.
		if k.scheduler.calls > 16 && k.wakeOne() {
			k.scheduler.calls = 0
		}
	}
	k.calls++
	k.history.Add(int(k.now))
	if k.options.World != nil {
		k.options.World.Call(name, fd)
	}
	return leave
}

// open gives a file the lowest number that is free.
func (k *Kernel) open(f *file) (int, error) {
	fd := slices.Index(k.files, nil)
	if fd < 0 {
		fd = len(k.files)
	}
	if fd >= k.options.Descriptors {
		return -1, unix.EMFILE
	}
	if fd == len(k.files) {
		k.files = append(k.files, nil)
	}
	k.files[fd] = f
	f.descriptors++
	return fd, nil
}

func (k *Kernel) file(fd int) (*file, error) {
	if fd < 0 || fd >= len(k.files) || k.files[fd] == nil {
		return nil, unix.EBADF
	}
	return k.files[fd], nil
}

func (k *Kernel) socket(fd int) (*socket, *file, error) {
	f, err := k.file(fd)
	switch {
	case err != nil:
		return nil, nil, err
	case f.socket == nil:
		return nil, nil, unix.ENOTSOCK
	}
	return f.socket, f, nil
}

// after calls do for c when that much time has passed.
func (k *Kernel) after(d time.Duration, c *Client, do func()) {
	if k.scheduler != nil && k.scheduler.shared != nil {
		time.AfterFunc(d, func() { k.Act(do) })
		return
	}
	t := timer{k.now + d, c, do}
	at, _ := slices.BinarySearchFunc(k.timers, t, func(a, b timer) int {
		if a.at <= b.at {
			return -1
		}
		return 1
	})
	k.timers = slices.Insert(k.timers, at, t)
}

// never is later than every deadline.
const never = time.Duration(1<<63 - 1)

// block waits until ready returns true (nil), or the deadline has come (EAGAIN).
func (k *Kernel) block(deadline time.Duration, ready func() bool) error {
	if k.scheduler != nil {
		return k.scheduler.block(deadline, ready)
	}
	for !ready() {
		if k.now >= deadline {
			return unix.EAGAIN
		}
		if k.options.World != nil && k.options.World.Idle() {
			continue
		}
		next := deadline
		if len(k.timers) > 0 {
			next = min(next, k.timers[0].at)
		}
		if next == never {
			k.stuck()
			continue
		}
		if k.options.Sleep != nil && next > k.now {
			k.options.Sleep(next - k.now)
		}
		k.pass(next)
	}
	return nil
}

// Advance lets virtual time pass, but not that of a program's own clock.
func (k *Kernel) Advance(d time.Duration) { k.pass(k.now + d) }

// pass moves the time to then, and does what was to be done until then.
func (k *Kernel) pass(then time.Duration) {
	k.now = max(k.now, then)
	for len(k.timers) > 0 && k.timers[0].at <= k.now {
		t := k.timers[0]
		k.timers = k.timers[1:]
		t.do()
	}
}

func (k *Kernel) stuck() {
	if k.options.World == nil {
		panic("simulated: a system call blocks forever")
	}
	k.options.World.Stuck()
}

// listeners returns the sockets that listen on a port: several with SO_REUSEPORT.
func (k *Kernel) listeners(port uint16) []*socket {
	var all []*socket
	for _, s := range k.sockets {
		if s.state == listening && s.local.Port() == port {
			all = append(all, s)
		}
	}
	return all
}

// listener returns the one that gets the next connection, nil if none listens. Linux
// chooses by a hash of the addresses; here they take turns.
func (k *Kernel) listener(port uint16) *socket {
	all := k.listeners(port)
	if len(all) == 0 {
		return nil
	}
	return all[len(k.clients)%len(all)]
}

func (k *Kernel) forget(l *socket) {
	k.sockets = slices.DeleteFunc(k.sockets, func(s *socket) bool { return s == l })
}

// queued reports whether a connection is in an accept queue.
func (k *Kernel) queued(c *socket) bool {
	for _, l := range k.sockets {
		if slices.Contains(l.queue, c) {
			return true
		}
	}
	return false
}

// fails returns an errno as an error, and nil for 0.
func fails(errno unix.Errno) error {
	if errno == 0 {
		return nil
	}
	return errno
}

func (k *Kernel) Socket(domain, typ, proto int) (int, error) {
	defer k.enter("socket", -1)()
	f := &file{socket: &socket{kernel: k, lowWater: 1}, nonblocking: typ&unix.SOCK_NONBLOCK != 0}
	f.socket.file = f
	return k.open(f)
}

func (k *Kernel) Bind(fd int, addr netip.AddrPort) error {
	defer k.enter("bind", fd)()
	s, _, err := k.socket(fd)
	if err != nil {
		return err
	}
	if addr.Port() == 0 {
		k.nextPort++
		addr = netip.AddrPortFrom(addr.Addr(), k.nextPort)
	}
	if others := k.listeners(addr.Port()); len(others) > 0 && !(s.reusePort && others[0].reusePort) {
		return unix.EADDRINUSE
	}
	s.local = addr
	return nil
}

func (k *Kernel) Listen(fd, backlog int) error {
	defer k.enter("listen", fd)()
	s, _, err := k.socket(fd)
	if err != nil {
		return err
	}
	if s.state != fresh && s.state != listening {
		return unix.EINVAL
	}
	s.backlog = backlog
	if s.state == fresh {
		s.state = listening
		k.sockets = append(k.sockets, s)
	}
	return nil
}

func (k *Kernel) Getsockname(fd int) (netip.AddrPort, error) {
	defer k.enter("getsockname", fd)()
	s, _, err := k.socket(fd)
	if err != nil {
		return netip.AddrPort{}, err
	}
	return s.local, nil
}

// SetsockoptInt knows SO_RCVLOWAT and SO_REUSEPORT. It accepts the other options of the lessons, which
// change when segments leave: here every byte leaves at once.
func (k *Kernel) SetsockoptInt(fd, level, name, value int) error {
	defer k.enter("setsockopt", fd)()
	s, _, err := k.socket(fd)
	if err != nil {
		return err
	}
	switch {
	case level != unix.SOL_SOCKET:
	case name == unix.SO_REUSEPORT:
		s.reusePort = value != 0
	case name == unix.SO_RCVLOWAT:
		s.lowWater = value
		s.wakeIfReadable()
	}
	return nil
}

// wakeIfReadable does what tcp_set_rcvlowat does: a lower mark may be reached already,
// and an end of file is below every mark.
func (s *socket) wakeIfReadable() {
	if s.client != nil && (s.end || len(s.unread) >= max(1, s.lowWater)) {
		s.wake(unix.EPOLLIN, causeLowWater)
	}
}

func (k *Kernel) SetsockoptTimeval(fd, level, name int, d time.Duration) error {
	defer k.enter("setsockopt", fd)()
	s, _, err := k.socket(fd)
	if err != nil {
		return err
	}
	if level == unix.SOL_SOCKET && name == unix.SO_RCVTIMEO {
		s.rcvTimeout = d.Truncate(time.Microsecond) // struct timeval; 0 is forever
	}
	return nil
}

func (k *Kernel) Accept4(fd, flags int) (n int, err error) {
	defer k.enter("accept4", fd)()
	defer k.learn(&n, &err)
	s, f, err := k.socket(fd)
	if err != nil {
		return -1, err
	}
	for s.state == listening && len(s.queue) == 0 { // another goroutine may be faster
		if f.nonblocking {
			return -1, unix.EAGAIN
		}
		err := k.block(never, func() bool { return s.state != listening || len(s.queue) > 0 })
		if err != nil {
			return -1, err
		}
	}
	if s.state != listening {
		return -1, unix.EINVAL
	}
	// The number is taken first: without one, the connection stays in the queue.
	c := s.queue[0]
	conn := &file{socket: c, nonblocking: flags&unix.SOCK_NONBLOCK != 0}
	number, err := k.open(conn)
	if err != nil {
		return -1, err
	}
	c.file = conn
	for len(k.given) <= number {
		k.given = append(k.given, given{})
	}
	c.number, c.before = number, k.given[number]
	k.given[number] = given{client: c.client}
	s.queue = s.queue[1:]
	k.history.Add(c.client.number)
	k.changed++
	return number, nil
}

func (k *Kernel) Read(fd int, p []byte) (n int, err error) {
	defer k.enter("read", fd)()
	defer k.learn(&n, &err)
	if k.IsEventfd(fd) {
		c := k.files[fd].counter
		return c.try(func() (int, unix.Errno) { return c.read(p) })
	}
	s, f, err := k.socket(fd)
	if err != nil {
		return -1, err
	}
	n, errno := s.read(p)
	if errno == unix.EAGAIN && !f.nonblocking {
		deadline := never
		if s.rcvTimeout > 0 {
			deadline = k.now + s.rcvTimeout
		}
		err := k.block(deadline, func() bool {
			n, errno = s.read(p)
			return errno != unix.EAGAIN
		})
		if err != nil {
			return -1, err
		}
	}
	return n, fails(errno)
}

func (k *Kernel) Send(fd int, p []byte, flags int) (n int, err error) {
	defer k.enter("send", fd)()
	defer k.learn(&n, &err)
	s, f, err := k.socket(fd)
	if err != nil {
		return -1, err
	}
	n, errno := s.send(p)
	if errno == unix.EAGAIN && !f.nonblocking {
		err := k.block(never, func() bool {
			n, errno = s.send(p)
			return errno != unix.EAGAIN
		})
		if err != nil {
			return -1, err
		}
	}
	return n, fails(errno)
}

func (k *Kernel) Shutdown(fd, how int) (err error) {
	defer k.enter("shutdown", fd)()
	defer k.learn(new(int), &err)
	s, _, err := k.socket(fd)
	if err != nil {
		return err
	}
	return fails(s.shutdown(how))
}

func (k *Kernel) Close(fd int) error {
	defer k.enter("close", fd)()
	f, err := k.file(fd)
	if err != nil {
		return err
	}
	k.files[fd] = nil
	if fd < len(k.given) {
		k.given[fd].closed = k.stepNow()
	}
	k.changed++
	f.descriptors--
	if f.descriptors > 0 {
		return nil
	}
	for len(f.watched) > 0 {
		f.watched[0].remove()
	}
	switch {
	case f.epoll != nil:
		f.epoll.close()
	case f.socket != nil:
		f.socket.close()
	}
	return nil
}

// FellShort notes that a send on fd took less than the server wanted to send.
func (k *Kernel) FellShort(fd int) {
	if s, _, err := k.socket(fd); err == nil {
		s.short = k.stepNow()
	}
}

// Silent returns a descriptor on which nothing ever happens: one end of a pipe that a
// server keeps for signals.
func (k *Kernel) Silent() (int, error) {
	defer k.enter("pipe2", -1)()
	k.options.Descriptors++ // the limit is meant for connections
	return k.open(&file{})
}

// SetNonblock does what fcntl(2) does with O_NONBLOCK.
func (k *Kernel) SetNonblock(fd int, nonblocking bool) error {
	defer k.enter("fcntl", fd)()
	f, err := k.file(fd)
	if err != nil {
		return err
	}
	f.nonblocking = nonblocking
	return nil
}

// MayBlock reports whether calls on a descriptor block.
func (k *Kernel) MayBlock(fd int) bool {
	f, err := k.file(fd)
	return err == nil && !f.nonblocking
}

// SocketError takes the error of a socket, as getsockopt(2) does with SO_ERROR.
func (k *Kernel) SocketError(fd int) (unix.Errno, error) {
	defer k.enter("getsockopt", fd)()
	s, _, err := k.socket(fd)
	if err != nil {
		return 0, err
	}
	errno := s.takeErr()
	k.history.Add(int(errno))
	return errno, nil
}

// Dup gives the file of fd another number.
func (k *Kernel) Dup(fd int) (int, error) {
	defer k.enter("dup", fd)()
	f, err := k.file(fd)
	if err != nil {
		return -1, err
	}
	return k.open(f)
}

func (k *Kernel) EpollCreate1(flags int) (int, error) {
	defer k.enter("epoll_create1", -1)()
	f := &file{epoll: &epoll{kernel: k}}
	f.epoll.file = f
	return k.open(f)
}

func (k *Kernel) epoll(epfd int) (*epoll, error) {
	f, err := k.file(epfd)
	switch {
	case err != nil:
		return nil, err
	case f.epoll == nil:
		return nil, unix.EINVAL
	}
	return f.epoll, nil
}

func (k *Kernel) EpollCtl(epfd, op, fd int, event unix.EpollEvent) error {
	defer k.enter("epoll_ctl", fd)()
	if _, err := k.file(epfd); err != nil {
		return err
	}
	f, err := k.file(fd)
	if err != nil {
		return err
	}
	e, err := k.epoll(epfd)
	if err != nil || f.epoll == e {
		return unix.EINVAL
	}
	return fails(e.ctl(op, f, fd, event))
}

func (k *Kernel) EpollWait(epfd int, events []unix.EpollEvent, milliseconds int) (n int, err error) {
	defer k.enter("epoll_wait", -1)()
	defer k.learn(&n, &err)
	e, err := k.epoll(epfd)
	if err != nil {
		return -1, err
	}
	if len(events) == 0 {
		return -1, unix.EINVAL
	}
	deadline := never
	if milliseconds >= 0 {
		deadline = k.now + time.Duration(milliseconds)*time.Millisecond
	}
	_ = k.block(deadline, func() bool { // EAGAIN: the time is over, and n is 0
		n = e.collect(events)
		return n > 0
	})
	for _, event := range events[:n] {
		k.history.Add(int(event.Events), int(event.Fd), int(event.Pad))
	}
	return n, nil
}

func (k *Kernel) Nanosleep(d time.Duration) error {
	defer k.enter("nanosleep", -1)()
	_ = k.block(k.now+d, func() bool { return false }) // EAGAIN: the time is over
	return nil
}
