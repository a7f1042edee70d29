//go:build linux

// Package child starts servers for the tools to judge, race and measure: child
// processes on a port that is free, ready when they listen. Every server that it
// starts must be ended with End.
package child

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"lesson/internal/lesson"
	"lesson/internal/observe/proc"
	"lesson/internal/observe/sockets"
	"lesson/internal/report"
)

// A Program is a server that can be started.
type Program struct {
	Name string // what a report calls it
	// Command starts it. {port}, {host} and {addr} are replaced. Without {port} and
	// {addr} the server chooses its port, and Start finds it.
	Command []string
	Dir     string   // where Command runs; "" for here
	Env     []string // added to the environment
	CPUs    []int    // the processors it may use; none is any
	// Born, when not nil, is called with the process before it has become the
	// program: from its first call on, it can be watched.
	Born func(pid int) error
}

// Lesson is one of the lessons, by name, with flags: this program, started again.
func Lesson(name string, flags ...string) (Program, error) {
	l, err := lesson.Find(name)
	if err != nil {
		return Program{}, err
	}
	self, err := os.Executable()
	if err != nil {
		return Program{}, err
	}
	command := append([]string{self}, strings.Fields(l.Command)[1:]...)
	command = append(command, "--addr", "{addr}")
	return Program{Name: name, Command: append(command, flags...)}, nil
}

// ChoosesPort says whether the command leaves the choice of the port to the
// server.
func (p Program) ChoosesPort() bool {
	for _, arg := range p.Command {
		if strings.Contains(arg, "{port}") || strings.Contains(arg, "{addr}") {
			return false
		}
	}
	return true
}

// A Server is a program that has been started and listens.
type Server struct {
	Addr netip.AddrPort
	Proc *Process
	Pids []int // the processes that have the listener: often a child of Proc
}

// within bounds how long a server may take until it listens: `go run` and its
// like may have to compile it first. One that listens on another port than it was
// told is given up sooner.
const (
	within          = time.Minute
	elsewhereWithin = 2 * time.Second
)

// Start starts the program, on a free port of 127.0.0.1 if it may be told one, and
// returns when it listens.
func (p Program) Start(ctx context.Context) (*Server, error) {
	const tries = 3
	for try := 1; ; try++ {
		port, err := FreePort()
		if err != nil {
			return nil, err
		}
		s, err := p.StartAt(ctx, netip.AddrPortFrom(loopback, port))
		if err == nil || try == tries || !takenBySomebody(port) {
			return s, err
		}
	}
}

var loopback = netip.AddrFrom4([4]byte{127, 0, 0, 1})

// takenBySomebody says whether a server that did not start may have come too late
// for its port.
func takenBySomebody(port uint16) bool {
	listeners, err := sockets.Listeners(port)
	return err == nil && len(listeners) > 0
}

// StartAt is Start at that address.
func (p Program) StartAt(ctx context.Context, addr netip.AddrPort) (*Server, error) {
	replace := strings.NewReplacer("{port}", strconv.Itoa(int(addr.Port())),
		"{host}", addr.Addr().String(), "{addr}", addr.String())
	command := make([]string, len(p.Command))
	for i, arg := range p.Command {
		command[i] = replace.Replace(arg)
	}
	process, err := p.bear(command)
	if err != nil {
		return nil, err
	}
	s := &Server{Addr: addr, Proc: process}
	if err := s.awaitListener(ctx, p.ChoosesPort()); err != nil {
		return nil, errors.Join(s.startError(command, p.ChoosesPort(), err), s.End())
	}
	return s, nil
}

// bear starts the process, and lets Born see it first: a shell stops itself, and
// becomes the program when it may go on.
func (p Program) bear(command []string) (*Process, error) {
	if p.Born == nil {
		return p.start(command)
	}
	const stopsItself = `kill -STOP $$; exec "$@"`
	process, err := p.start(append([]string{"sh", "-c", stopsItself, "sh"}, command...))
	if err != nil {
		return nil, err
	}
	for {
		stopped, err := proc.Stopped(process.Pid())
		switch {
		case err == nil && stopped:
			err = p.Born(process.Pid())
			if err == nil {
				err = Signal(process.Pid(), unix.SIGCONT)
			}
			if err != nil {
				return nil, errors.Join(err, process.Kill())
			}
			return process, nil
		case err != nil:
			return nil, errors.Join(err, process.Kill())
		}
		time.Sleep(time.Millisecond)
	}
}

// start starts the process, on its processors: a child inherits the affinity of
// the thread that starts it (sched_setaffinity(2)).
func (p Program) start(command []string) (*Process, error) {
	if len(p.CPUs) == 0 {
		return Start(command, p.Dir, p.Env...)
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var before, wanted unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return nil, fmt.Errorf("sched_getaffinity: %w", err)
	}
	for _, cpu := range p.CPUs {
		wanted.Set(cpu)
	}
	if err := unix.SchedSetaffinity(0, &wanted); err != nil {
		return nil, fmt.Errorf("processors %v: sched_setaffinity: %w", p.CPUs, err)
	}
	process, err := Start(command, p.Dir, p.Env...)
	if restored := unix.SchedSetaffinity(0, &before); restored != nil && process != nil {
		return nil, errors.Join(err, fmt.Errorf("sched_setaffinity: %w", restored), process.Kill())
	}
	return process, err
}

// awaitListener waits until the server listens where it was told, or anywhere.
func (s *Server) awaitListener(ctx context.Context, anyPort bool) error {
	const pause = 2 * time.Millisecond
	began, told := time.Now(), s.Addr.Port()
	var elsewhere time.Time // since when it has been listening on another port
	for time.Since(began) < within {
		at, err := s.listensAt()
		switch {
		case err != nil:
			return err
		case !at.IsValid():
		case anyPort || at.Port() == told:
			s.Addr = at
			return nil
		case elsewhere.IsZero():
			elsewhere = time.Now()
		case time.Since(elsewhere) > elsewhereWithin:
			return fmt.Errorf("listens on port %d, and not on %d as it was told", at.Port(), told)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
	return fmt.Errorf("does not listen after %v", within)
}

// listensAt looks for a listener that the server's processes hold, the one at
// the address that it was told if there is one, and remembers who holds it. It is
// not valid when there is none.
func (s *Server) listensAt() (netip.AddrPort, error) {
	var found netip.AddrPort
	if !s.Proc.Running() {
		how, _ := s.Proc.Status()
		return found, fmt.Errorf("ended before it listened: %s", how)
	}
	listeners, err := sockets.Listeners(0)
	if err != nil {
		return found, err
	}
	tree, err := s.Proc.Tree()
	if err != nil {
		return found, err
	}
	for _, l := range listeners {
		if found.IsValid() && l.Local.Port() != s.Addr.Port() || len(tree) == 0 {
			continue
		}
		holders, err := proc.Holders(l.Inode, tree...)
		if err != nil {
			return found, err
		}
		if len(holders) > 0 {
			s.Pids = holders
			found = reachedAt(l.Local)
		}
	}
	return found, nil
}

// reachedAt is where a client finds a listener on all addresses.
func reachedAt(listener netip.AddrPort) netip.AddrPort {
	if listener.Addr().IsUnspecified() {
		return netip.AddrPortFrom(loopback, listener.Port())
	}
	return listener
}

func (s *Server) startError(command []string, anyPort bool, err error) error {
	hint := "does it listen on the port that {port} becomes?"
	if anyPort {
		hint = "give it a port: write {port} or {addr} where the command takes it," +
			" as in: python3 server.py {port}"
	}
	words := LastWords(s.Proc.Output())
	if words != "" {
		words = "\nits last words: " + words
	}
	return fmt.Errorf("%s: %w; %s%s", report.Printable(strings.Join(command, " ")), err, hint, words)
}

// Used sums up what the server's processes have used. proc.ErrGone when one of
// them has ended.
func (s *Server) Used() (proc.Usage, error) {
	var sum proc.Usage
	for _, pid := range s.Pids {
		u, err := proc.Used(pid)
		if err != nil {
			return sum, err
		}
		sum.Add(u)
	}
	return sum, nil
}

// stopWithin is how long a server may take to stop.
const stopWithin = 3 * time.Second

// Stop asks the server to stop, by SIGTERM, and ends it with End when it has, or has
// not within 3 s.
func (s *Server) Stop() error {
	var err error
	for _, pid := range s.Pids {
		err = errors.Join(err, Signal(pid, unix.SIGTERM))
	}
	select {
	case <-s.Proc.Ended():
	case <-time.After(stopWithin):
		err = errors.Join(err, fmt.Errorf("not stopped %v after SIGTERM", stopWithin))
	}
	return errors.Join(err, s.End())
}

// End ends the server at once, with all its children.
func (s *Server) End() error { return s.Proc.Kill() }

// goEnds is how the Go runtime begins to say what has ended a program. The stacks of
// its goroutines follow, after an empty line, and may be long.
var goEnds = regexp.MustCompile(`(?m)^(runtime: .*\n)?(fatal error|panic): (.|\n)*?\n\n`)

// LastWords is the end of what a server has written, made safe to print: of a program
// of Go's that has failed, what it failed of.
func LastWords(output []byte) string {
	const most = 400
	if found := goEnds.FindAll(output, -1); len(found) > 0 {
		output = found[len(found)-1]
	}
	text := strings.TrimSpace(string(output[max(0, len(output)-most):]))
	return report.PrintableLines(text)
}
