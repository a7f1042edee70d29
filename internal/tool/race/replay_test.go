//go:build linux

package race

import (
	"bytes"
	"cmp"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lesson/internal/kernel"
	"lesson/internal/kernel/simulated"
	"lesson/internal/observe/trace"
	"lesson/internal/play"
)

// A call or an act takes some time, and takes effect in an instant between. Of two whose times
// overlap, the record does not say which came first. So an order agrees with the record if
//
//   - what was done before something else began comes before it,
//   - an epoll_wait that blocked was entered before what began after that, and
//   - the clients connect in the order in which the lesson accepted them.
//
// The order of the events that one epoll_wait returns is not compared: it is that of acts of
// different clients.
//
// Of these orders replay looks for one in which every call returns what was recorded. It
// first tries the order in which calls and acts ended. Where the next of them does not agree
// it tries another, and if none does, it goes back. It fails if no order agrees, or after
// mostTries.
//
// No test records and replays in one run, because by chance a result may differ: an act of a
// simulated client is done at once, and Linux does it on another processor, step by step. It
// may deliver what was sent only after send has returned. And it may report EPOLLIN of an end
// of file before EPOLLHUP (tcp_data_queue in net/ipv4/tcp_input.c).

// replay fails the test if no order that agrees with the history gives its results.
func replay(t *testing.T, name string, h history) {
	s := &search{history: h, seen: map[string]bool{}}
	if !s.from(newMachine(h), nil) {
		t.Errorf("%s: the results differ. This far they agree:\n%s\n"+
			"and then, recorded and simulated:\n%s",
			name, strings.Join(s.agreed(), "\n"), strings.Join(s.differ, "\n"))
	}
}

// A result that Linux has not returned is noticed.
func TestReplayNoticesADifference(t *testing.T) {
	for _, c := range []struct {
		name, call string
		change     func(*op)
	}{
		{"a byte more is read", "read", func(o *op) { o.Result++ }},
		{"other bytes are read", "read", func(o *op) { o.Data = `"PUT"` }},
		{"a read finds nothing", "read", func(o *op) { o.Result, o.Err, o.Data = -1, "EAGAIN", "" }},
		{"another event", "epoll_wait", func(o *op) { o.Ready[0].FD++ }},
		{"an event bit more", "epoll_wait", func(o *op) { o.Ready[0].Events += "|EPOLLHUP" }},
		{"another client is accepted", "accept4", func(o *op) { o.Client = "quick-8" }},
		{"a client reads less", "", func(o *op) { o.Read = read(113, true, false) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := readHistory(t, fileOf("slow-client", "edgetriggered"))
			i := slices.IndexFunc(h, func(o op) bool {
				return o.Name == c.call && o.Err == "" && (o.Do == "" || o.Do == play.Close)
			})
			c.change(&h[i])
			s := &search{history: h, seen: map[string]bool{}}
			if s.from(newMachine(h), nil) {
				t.Errorf("not noticed: %v", h[i])
			}
		})
	}
}

// mostTries bounds how often a history is played again from its beginning.
const mostTries = 1000

// A search looks for an order of the history.
type search struct {
	history history
	seen    map[string]bool // states that have been left without success
	tries   int
	longest []int    // the longest order that agrees
	differ  []string // and what cannot follow it
}

// from looks for the rest of an order. m is the machine after the beginning of it.
func (s *search) from(m *machine, path []int) bool {
	if s.seen[m.state()] {
		return false
	}
	s.seen[m.state()] = true
	next := m.next()
	if len(path) > len(s.longest) {
		s.longest, s.differ = slices.Clone(path), nil
	}
	for _, i := range next {
		if m == nil {
			if s.tries++; s.tries > mostTries {
				return false
			}
			m = newMachine(s.history)
			for _, done := range path {
				m.do(done)
			}
		}
		got, agrees := m.do(i)
		if agrees && s.from(m, append(path, i)) {
			return true
		}
		line := fmt.Sprintf("  %v: %s", s.history[i], got)
		if !agrees && len(path) == len(s.longest) && !slices.Contains(s.differ, line) {
			s.differ = append(s.differ, line)
		}
		m = nil // what has been done cannot be undone
	}
	return m != nil && !bytes.Contains(m.done, []byte{0})
}

// agreed returns the last operations of the longest order.
func (s *search) agreed() (lines []string) {
	for _, i := range s.longest[max(0, len(s.longest)-12):] {
		lines = append(lines, fmt.Sprintf("  %v", s.history[i]))
	}
	return lines
}

// blocking is how long an epoll_wait must take to have blocked, as in package trace: it was
// entered long before it returned.
const blocking = time.Millisecond

// A machine is a simulated kernel on which a part of a history has been played.
type machine struct {
	history history
	kernel  *simulated.Kernel
	done    []byte      // 1 for each operation that is done
	waiting map[int]int // an epoll_wait that was entered: the changes by then
	queue   []string    // those that have not connected, in the order of accept4
	fds     map[int]int // the simulated descriptor of a recorded one
	clients map[string]*simulated.Client
}

func newMachine(h history) *machine {
	m := &machine{
		history: h, kernel: simulated.New(simulated.Options{}), done: make([]byte, len(h)),
		waiting: map[int]int{}, fds: map[int]int{}, clients: map[string]*simulated.Client{},
	}
	for _, o := range h {
		if o.Name == "accept4" && o.Client != "" {
			m.queue = append(m.queue, o.Client)
		}
	}
	return m
}

// state tells machines of one history apart.
func (m *machine) state() string { return fmt.Sprint(m.kernel.Hash(), string(m.done), m.waiting) }

// next returns what can be done next, by the time when it was done.
func (m *machine) next() []int {
	soonest := time.Duration(math.MaxInt64) // when the first of what is left was done
	blocks := soonest                       // when the first epoll_wait that blocks was entered
	for i, o := range m.history {
		if m.done[i] == 1 {
			continue
		}
		soonest = min(soonest, o.To)
		if _, waits := m.waiting[i]; o.Name == "epoll_wait" && o.To-o.From >= blocking && !waits {
			blocks = min(blocks, o.From)
		}
	}
	var able []int
	for i, o := range m.history {
		changes, waits := m.waiting[i]
		switch {
		case m.done[i] == 1 || o.From >= soonest:
		case o.Do != "" && o.From > blocks:
		case o.Do == play.Connect && len(m.queue) > 0 && m.queue[0] != o.Client:
		case waits && changes == m.kernel.Changes(): // nothing can have woken it
		default:
			able = append(able, i)
		}
	}
	return slices.SortedFunc(slices.Values(able), func(a, b int) int {
		return cmp.Compare(m.history[a].To, m.history[b].To)
	})
}

// do does one operation. It returns what came of it, and whether that was recorded.
func (m *machine) do(i int) (got string, agrees bool) {
	o := m.history[i]
	if o.Do != "" {
		got = m.act(o)
	} else {
		got = m.call(i)
	}
	_, waits := m.waiting[i]
	switch {
	case got == "waits": // it was entered, and returns later
		return got, true
	case waits:
		delete(m.waiting, i)
	}
	m.done[i] = 1
	return got, got == o.want()
}

// act lets a client act.
func (m *machine) act(o op) string {
	c := m.clients[o.Client]
	switch o.Do {
	case play.Connect:
		c = m.kernel.Connect(o.Client, m.kernel.ListenPort())
		m.clients[o.Client] = c
		m.queue = m.queue[min(1, len(m.queue)):]
		if c.Refused() {
			return "refused"
		}
	case play.Send:
		_ = c.Send([]byte(o.Bytes)) // if it fails, the client's last read says so
	case play.Close:
		defer c.Close()
		if o.Read == "" {
			return ""
		}
		p, ended, err := c.Read(math.MaxInt)
		if !ended {
			_, ended, err = c.Read(1)
		}
		return read(len(p), ended, err != nil)
	}
	return ""
}

// call makes a recorded call, and returns its result as op.want does.
func (m *machine) call(i int) (got string) {
	o := m.history[i]
	if o.Err == "EINTR" && o.Name != "epoll_wait" {
		return o.Err // there are no signals
	}
	defer func() {
		if blocks := recover(); blocks != nil {
			got = fmt.Sprint(blocks)
		}
	}()
	args := strings.Split(o.Args, ", ")
	var n int
	var seen string
	var err error
	switch {
	case o.Name == "exit":
		for _, fd := range m.fds {
			err = cmp.Or(err, m.kernel.Close(fd))
		}
	case o.Name == "epoll_wait":
		n, seen, err = m.wait(number(args[0]))
		_, waits := m.waiting[i]
		switch {
		case n == 0 && o.Err == "EINTR":
			return o.Err
		case n == 0 && !waits && len(o.Ready) > 0:
			m.waiting[i] = m.kernel.Changes()
			return "waits"
		}
	case makesDescriptor(o.Name):
		n, err = m.create(o.Name, args)
	case len(args) == 1:
		err = m.about(o.Name, number(args[0]))
	default:
		n, seen, err = m.with(o.Name, m.fds[number(args[0])], args[1:])
	}
	switch {
	case err != nil:
		return unix.ErrnoName(err.(unix.Errno))
	case !makesDescriptor(o.Name):
		return fmt.Sprint(n) + seen
	}
	m.fds[o.Result] = n
	if o.Name == "accept4" {
		return "a connection of " + m.clientOf(n)
	}
	return "a descriptor"
}

// number reads the number with which an argument begins: "1024 bytes".
func number(arg string) int {
	digits, _, _ := strings.Cut(arg, " ")
	n, _ := strconv.Atoi(digits) // the trace has written it
	return n
}

// mostEvents is how many events the lessons ask epoll_wait for.
const mostEvents = 128

func (m *machine) wait(epfd int) (n int, seen string, err error) {
	var events [mostEvents]unix.EpollEvent
	n, err = m.kernel.EpollWait(m.fds[epfd], events[:], 0)
	var ready []trace.Ready
	for _, e := range events[:max(n, 0)] {
		ready = append(ready, trace.Ready{FD: int(e.Fd), Events: kernel.EventNames(e.Events)})
	}
	return n, inOrder(ready), err
}

// create makes a call that returns a descriptor.
func (m *machine) create(name string, args []string) (int, error) {
	switch name {
	case "socket":
		typ := unix.SOCK_STREAM
		if strings.Contains(args[1], "SOCK_NONBLOCK") {
			typ |= unix.SOCK_NONBLOCK
		}
		return m.kernel.Socket(unix.AF_INET, typ, 0)
	case "accept4":
		fd, flags := m.fds[number(args[0])], 0
		if !m.kernel.MayBlock(fd) {
			flags = unix.SOCK_NONBLOCK // as the lessons do
		}
		return m.kernel.Accept4(fd, flags)
	}
	return m.kernel.EpollCreate1(0)
}

// about makes a call that has no argument but a descriptor, or none that counts here.
func (m *machine) about(name string, recorded int) (err error) {
	switch name {
	case "getsockname":
		_, err = m.kernel.Getsockname(m.fds[recorded])
	case "close":
		err = m.kernel.Close(m.fds[recorded])
		delete(m.fds, recorded)
	case "nanosleep":
	default:
		panic(name + " cannot be replayed")
	}
	return err
}

// with makes a call on a descriptor. seen is what was read.
func (m *machine) with(name string, fd int, args []string) (n int, seen string, err error) {
	k := m.kernel
	switch name {
	case "bind":
		err = k.Bind(fd, netip.MustParseAddrPort(args[0]))
	case "listen":
		err = k.Listen(fd, number(args[0]))
	case "setsockopt":
		if args[0] == "SO_RCVTIMEO" {
			d, _ := time.ParseDuration(strings.ReplaceAll(args[1], " ", "")) // the trace has written it
			err = k.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, d)
		}
	case "read":
		const preview = 20 // as a trace has it
		p := make([]byte, number(args[0]))
		if n, err = k.Read(fd, p); n > 0 {
			seen = " " + strconv.QuoteToASCII(string(p[:min(n, preview)]))
		}
	case "send":
		n, err = k.Send(fd, make([]byte, number(args[0])), unix.MSG_NOSIGNAL)
	case "shutdown":
		err = k.Shutdown(fd, slices.Index([]string{"SHUT_RD", "SHUT_WR", "SHUT_RDWR"}, args[0]))
	case "epoll_ctl":
		op := slices.Index([]string{"", "ADD", "DEL", "MOD"}, args[0])
		event := unix.EpollEvent{Events: eventsOf(args[2]), Fd: int32(number(args[1]))}
		err = k.EpollCtl(fd, op, m.fds[number(args[1])], event)
	default:
		panic(name + " cannot be replayed")
	}
	return n, seen, err
}

// clientOf returns the client of an accepted connection.
func (m *machine) clientOf(fd int) string {
	for name, c := range m.clients {
		if c.Descriptor() == fd {
			return name
		}
	}
	return ""
}

// eventsOf reads what kernel.EventNames has written.
func eventsOf(text string) uint32 {
	var mask uint32
	for bit := uint32(1); bit != 0; bit <<= 1 {
		if slices.Contains(strings.Split(text, "|"), kernel.EventNames(bit)) {
			mask |= bit
		}
	}
	return mask
}
