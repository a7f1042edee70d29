//go:build linux

package explore

import (
	"bytes"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"lesson/internal/proof"
)

const keepsNumber = "keeps what it knew of a closed descriptor"

// The last sentence of a story says what is wrong, and in which step, so that a reader
// need not know the rule that was broken.
func TestLastSentence(t *testing.T) {
	for flaw, want := range map[string]string{
		"":                                    "",
		"accepts once":                        `^[ab] waits for its answer, and the server sleeps: the connection is in the accept queue; the edge was reported in step \d+, and there has been no other since$`,
		"reads once":                          `^a waits for its answer, and the server sleeps: \d+ bytes of this client are unread in 5; the edge was reported in step \d+, and there has been no other since$`,
		"never waits for room":                `^a waits for the last 4 bytes of its answer, and the server sleeps: a send to 5 fell short in step \d+, and the rest was not sent when there was room; its entry asks for IN\|RDHUP\|ET only$`,
		"ends before the rest":                `^a got only 110 of 114 bytes of its answer: the server sends its FIN in step \d+$`,
		"never arms again":                    `^every client has gone, and 1 more descriptor is open than at the start \(5, of a: the end of file of this client is unread in 5; its EPOLLONESHOT entry fired in step \d+ and was not armed again\): the server leaks$`,
		"asks for a level":                    `^the last 40 system calls changed nothing \((read and epoll_wait|epoll_wait and read) again and again; epoll_wait reports OUT of 5\): the server spins$`,
		"waits for 0 ms":                      `^the last 40 system calls changed nothing \(epoll_wait again and again, and nothing is ready\): the server spins$`,
		"takes EINTR for more":                `^the server panics: interrupted system call$`,
		"sends once":                          `^a waits for the last 113 bytes of its answer, and the server sleeps: a send to 5 fell short in step \d+, and the rest was not sent when there was room; the edge was reported in step \d+, and there has been no other since$`,
		"accepts with a listener that blocks": `^a waits for its answer, and the server is blocked in accept4\(3\) since step \d+: 18 bytes of this client are unread in 5$`,
		"leaves the answer to the next edge":  `^a waits for its answer, and the server sleeps: the server has read all that this client sent, from 5 in step \d+, and has sent nothing; the edge was reported in step \d+, and there has been no other since$`,
		"asks for nothing":                    `^a waits for its answer, and the server sleeps: the server has read all that this client sent, from 5 in step \d+, and has sent nothing; its entry asks for no events, so the server must go on by itself$`,
		"ends without an answer":              `^a got end of file and no answer: the server sends its FIN in step \d+$`,
		keepsNumber:                           `^[ab] waits for its answer, and the server sleeps: the server has read all that this client sent, from 5 in step \d+, and has sent nothing; .* \(5 was the descriptor of [ab] until step \d+\)$`,
		"closes at once":                      `^a got its answer, but then a reset instead of end of file: the server closes in step \d+, while 6 bytes of this client are unread$`,
	} {
		t.Run(flaw, func(t *testing.T) {
			options := Options{Scenarios: Scenarios()[:17], Depth: 2, most: 1000}
			options.Faults.Errors = flaw == "takes EINTR for more"
			if flaw == "accepts once" || flaw == keepsNumber {
				options.Scenarios = options.Scenarios[13:] // those with two clients
			}
			if options.Faults.Short = flaw == "sends once"; options.Faults.Short {
				options.Scenarios = options.Scenarios[:1] // later ones have small buffers
			}
			target := &Target{Name: "small", program: (&small{flaw: flaw}).serve}
			r, err := target.Explore(t.Context(), options)
			proof.Must(t, err)
			switch {
			case r.Failure == nil && want == "":
			case r.Failure == nil || want == "" || !regexp.MustCompile(want).MatchString(r.Failure.Text):
				t.Errorf("%+v, want %q", r.Failure, want)
			case flaw == "accepts once" && !strings.Contains(r.Scenario, "."):
				t.Errorf("%s: want one in which a client stops", r.Scenario)
			case len(r.Story.Steps) > shortEnough && flaw != keepsNumber: // two clients, one after the other
				t.Errorf("%d steps, want at most %d", len(r.Story.Steps), shortEnough)
			case options.Faults.Short && !r.Story.faulty():
				t.Errorf("no step is marked as a fault: %+v", r.Story.Steps)
			}
		})
	}
}

// A small server is edge-triggered, and has the flaw of that name.
type small struct {
	flaw     string
	k        Kernel
	listener int
	epoll    int
	conns    map[int]*smallConn
}

type smallConn struct {
	request, rest []byte
	answered      bool
}

func (s *small) serve(k Kernel, _ func(func())) {
	s.k, s.conns = k, make(map[int]*smallConn)
	kind := unix.SOCK_STREAM | unix.SOCK_NONBLOCK
	if s.flaw == "accepts with a listener that blocks" {
		kind = unix.SOCK_STREAM
	}
	s.listener = sure(k.Socket(unix.AF_INET, kind, 0))
	sure(0, k.Bind(s.listener, address))
	sure(0, k.Listen(s.listener, 100))
	s.epoll = sure(k.EpollCreate1(0))
	s.ctl(unix.EPOLL_CTL_ADD, s.listener, unix.EPOLLIN|unix.EPOLLET)
	timeout := -1
	if s.flaw == "waits for 0 ms" {
		timeout = 0
	}
	events := make([]unix.EpollEvent, 8)
	for {
		n, err := k.EpollWait(s.epoll, events, timeout)
		if err == unix.EINTR && s.flaw != "takes EINTR for more" {
			continue
		}
		for _, event := range events[:sure(n, err)] {
			if fd := int(event.Fd); fd == s.listener {
				s.accept()
			} else if c := s.conns[fd]; c != nil {
				s.handle(fd, c)
			}
		}
	}
}

func sure(n int, err error) int {
	if err != nil {
		panic(err)
	}
	return n
}

func (s *small) ctl(op, fd int, events uint32) {
	sure(0, s.k.EpollCtl(s.epoll, op, fd, unix.EpollEvent{Events: events, Fd: int32(fd)}))
}

func (s *small) accept() {
	for {
		fd, err := s.k.Accept4(s.listener, unix.SOCK_NONBLOCK)
		if err != nil {
			return // EAGAIN
		}
		if s.conns[fd] == nil {
			s.conns[fd] = &smallConn{}
		}
		asks := uint32(unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET)
		switch s.flaw {
		case "never waits for room":
			asks &^= unix.EPOLLOUT
		case "never arms again":
			asks = unix.EPOLLIN | unix.EPOLLONESHOT
		}
		s.ctl(unix.EPOLL_CTL_ADD, fd, asks)
		if s.flaw == "accepts once" {
			return
		}
	}
}

func (s *small) handle(fd int, c *smallConn) {
	buffer := make([]byte, 1000)
	for {
		n, err := s.k.Read(fd, buffer)
		if err == unix.EAGAIN {
			break
		}
		if err != nil || n == 0 {
			s.end(fd)
			return
		}
		c.request = append(c.request, buffer[:n]...)
		if len(c.request) > 8000 && !c.answered {
			s.end(fd)
			return
		}
		if wholeRequest(c.request) && !c.answered {
			c.answered, c.rest = true, []byte(answer)
			switch s.flaw {
			case "asks for nothing":
				s.ctl(unix.EPOLL_CTL_MOD, fd, 0)
				return
			case "leaves the answer to the next edge":
				return
			case "ends without an answer":
				s.end(fd)
				return
			}
			s.send(fd, c)
		}
		if s.flaw == "reads once" || s.conns[fd] != c {
			return
		}
	}
	if s.flaw != "sends once" {
		s.send(fd, c)
	}
}

func (s *small) send(fd int, c *smallConn) {
	for len(c.rest) > 0 {
		n, err := s.k.Send(fd, c.rest, unix.MSG_NOSIGNAL)
		if err == unix.EAGAIN && s.flaw != "ends before the rest" {
			return
		}
		if err != nil {
			s.end(fd)
			return
		}
		c.rest = bytes.Clone(c.rest[n:])
		if s.flaw == "closes at once" && len(c.rest) == 0 {
			s.end(fd)
			return
		}
		switch {
		case len(c.rest) > 0 && s.flaw == "sends once":
			return
		case len(c.rest) > 0:
			continue
		}
		if s.flaw == "asks for a level" {
			s.ctl(unix.EPOLL_CTL_MOD, fd, unix.EPOLLIN|unix.EPOLLOUT)
		}
		_ = s.k.Shutdown(fd, unix.SHUT_WR) // fails after a reset
	}
}

func (s *small) end(fd int) {
	if s.flaw != keepsNumber {
		delete(s.conns, fd)
	}
	sure(0, s.k.Close(fd))
}
