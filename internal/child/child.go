//go:build linux

// Package child starts, pins, watches and ends the processes that the tools look at:
// servers on a free port, ready when they listen, with all the processes that they start.
// Every server that it starts must be ended with End.
package child

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"regexp"
	"runtime"
	"slices"
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

// Lesson returns one of the lessons, by name, with flags: this program, started again.
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

// ChoosesPort reports whether the command leaves the choice of the port to the server.
func (p Program) ChoosesPort() bool {
	for _, arg := range p.Command {
		if strings.Contains(arg, "{port}") || strings.Contains(arg, "{addr}") {
			return false
		}
	}
	return true
}

// within bounds how long a server may take until it listens: `go run` and its
// like may have to compile it first. One that listens on another port than it was
// given is given up sooner.
const (
	within          = time.Minute
	elsewhereWithin = 2 * time.Second
)

// Start starts the program and returns when it listens: on a free port of 127.0.0.1, if
// its command takes one. When that port turns out to be taken, it tries others.
func (p Program) Start(ctx context.Context) (*Server, error) {
	const tries = 3
	for try := 1; ; try++ {
		port, err := FreePort()
		if err != nil {
			return nil, err
		}
		s, err := p.StartAt(ctx, netip.AddrPortFrom(loopback4, port))
		var taken takenError
		if try == tries || !errors.As(err, &taken) {
			return s, err
		}
	}
}

var (
	loopback4 = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	loopback6 = netip.IPv6Loopback()
)

// StartAt does what Start does, at that address.
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
	if !p.ChoosesPort() {
		process.port = addr.Port()
	}
	s := &Server{Addr: addr, Proc: process, looked: time.Now()}
	if err := s.awaitListener(ctx, p.ChoosesPort()); err != nil {
		return nil, errors.Join(s.startError(command, p.ChoosesPort(), err), s.End())
	}
	return s, nil
}

// bear starts the process, and lets Born see it first: a shell stops itself, and
// becomes the program when it is continued.
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
		if err == nil && stopped {
			if err = p.Born(process.Pid()); err == nil {
				err = process.signal(process.Pid(), unix.SIGCONT)
			}
			if err == nil {
				return process, nil
			}
		}
		if err != nil {
			return nil, errors.Join(err, process.Kill())
		}
		time.Sleep(time.Millisecond)
	}
}

// start starts the process on its processors.
func (p Program) start(command []string) (*Process, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	restore, err := proc.Pin(p.CPUs...)
	if err != nil {
		return nil, err
	}
	process, err := Start(command, p.Dir, p.Env...)
	if failed := restore(); failed != nil && err == nil {
		return nil, errors.Join(failed, process.Kill())
	}
	return process, err
}

// awaitListener waits until the server listens at its address, or anywhere.
func (s *Server) awaitListener(ctx context.Context, anyPort bool) error {
	const longest = 100 * time.Millisecond
	began, given := time.Now(), s.Addr.Port()
	var elsewhere time.Time // since when it has been listening on another port
	for pause := time.Millisecond; time.Since(began) < within; pause = min(pause*9/8, longest) {
		at, err := s.listensAt()
		switch {
		case err != nil:
			return err
		case !at.IsValid():
		case anyPort || at.Port() == given:
			s.Addr = at
			return nil
		case elsewhere.IsZero():
			elsewhere = time.Now()
		case time.Since(elsewhere) > elsewhereWithin:
			return fmt.Errorf("listens on port %d, and not on %d as its command asks", at.Port(), given)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.Proc.Ended():
		case <-time.After(pause):
		}
	}
	return fmt.Errorf("does not listen after %v", within)
}

// listensAt looks for listeners that the server's processes hold, preferably at the
// address that it was given, and remembers which hold them. The address that it returns
// is where a client finds the listener; it is not valid when there is none.
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
	for _, l := range listeners { // the child itself is soon looked at, and often has it
		if l.Local.Port() != s.Addr.Port() {
			continue
		}
		if _, holds, err := proc.DescriptorOf(s.Proc.Pid(), l.Inode); holds && err == nil {
			s.holders, s.others = []int{s.Proc.Pid()}, nil
			return reachedAt(l), nil
		}
	}
	const (
		soon  = 20 * time.Millisecond // when other servers start at the same time
		again = time.Second           // one of the processes may have given its listener to another
	)
	if since := time.Since(s.looked); since < soon || slices.Equal(listeners, s.others) && since < again {
		return found, nil
	}
	s.others, s.looked = listeners, time.Now()
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
			s.holders = holders
			found = reachedAt(l)
		}
	}
	if found.IsValid() {
		s.others = nil
	}
	return found, nil
}

// reachedAt returns where a client finds a listener, which may be on all addresses.
func reachedAt(l sockets.Socket) netip.AddrPort {
	addr := l.Local.Addr()
	switch {
	case addr.IsUnspecified() && l.OnlyIPv6:
		addr = loopback6
	case addr.IsUnspecified():
		addr = loopback4
	}
	return netip.AddrPortFrom(addr, l.Local.Port())
}

// takenError is that of a server that did not start because its port is taken.
type takenError struct{ error }

// An interruption is the end of a context before a server listened.
type interruption struct {
	command string
	cause   error
}

func (i interruption) Error() string { return i.command + ": interrupted before it listened" }
func (i interruption) Unwrap() error { return i.cause }

// startError returns why a server did not start, with what to try.
func (s *Server) startError(command []string, anyPort bool, err error) error {
	text := report.Printable(strings.Join(command, " "))
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return interruption{text, err}
	}
	taken := !anyPort && taken(s.Addr.Port(), s.Proc.Output())
	how, success := "", false
	if !s.Proc.Running() {
		how, success = s.Proc.Status()
	}
	hint := "does it listen on the port that replaces {port}?"
	switch {
	case how == "exit status 127": // of sh(1), which Born and --also need
		hint = "the command was not found: " + notFound
	case taken:
		hint = fmt.Sprintf("port %d is in use: choose another, or see which process has it with:"+
			" ss -ltnp 'sport = :%[1]d'", s.Addr.Port())
	case anyPort:
		hint = "give it a port: write {port} or {addr} where the command takes it," +
			" as in: python3 server.py {port}"
	case success:
		hint = "did it move to the background? Keep it in the foreground"
	}
	words := LastWords(s.Proc.Output())
	if words != "" {
		words = "\nits last lines: " + words
	}
	err = fmt.Errorf("%s: %w; %s%s", text, err, hint, words)
	if taken {
		return takenError{err}
	}
	return err
}

// taken reports whether a server that did not start may have found its port taken: by a
// listener that is there, or by what it has written: EADDRINUSE in the words of strerror(3).
func taken(port uint16, output []byte) bool {
	listeners, err := sockets.Listeners(port)
	return err == nil && len(listeners) > 0 ||
		bytes.Contains(bytes.ToLower(output), []byte("address already in use"))
}

// goEnds is how the Go runtime begins to say what has ended a program. The stacks of
// its goroutines follow, after an empty line, and may be long.
var goEnds = regexp.MustCompile(`(?m)^(runtime: .*\n)?(fatal error|panic): (.|\n)*?\n\n`)

// LastWords returns the end of what a server has written, made safe to print: of a Go
// program that has failed, the reason.
func LastWords(output []byte) string {
	const most = 400
	if found := goEnds.FindAll(output, -1); len(found) > 0 {
		output = found[len(found)-1]
	}
	text := strings.TrimSpace(string(output[max(0, len(output)-most):]))
	return report.PrintableLines(text)
}
