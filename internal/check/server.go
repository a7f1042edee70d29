//go:build linux

package check

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"lesson/internal/process"
	"lesson/internal/sockdiag"
	"lesson/internal/syscount"
)

// A server is the one that is judged: a process of ours, or somebody else's.
type server struct {
	addr netip.AddrPort
	proc *process.Process // nil: we have not started it
	pids []int            // the processes that have the listener; none when they cannot be seen
}

// startWithin bounds how long a server may take until it listens: `go run` and
// its like may have to compile it first. One that listens on another port than
// it was told is given up sooner.
const (
	startWithin     = time.Minute
	elsewhereWithin = 2 * time.Second
)

var placeholders = []string{"{port}", "{addr}"}

// choosesPort says whether the command leaves the choice of the port to us.
func (target Target) choosesPort() bool {
	for _, arg := range target.Command {
		for _, p := range placeholders {
			if strings.Contains(arg, p) {
				return false
			}
		}
	}
	return true
}

// start starts the target, on a free port if it may be told one, and returns
// when it listens.
func (target Target) start(ctx context.Context, timeout time.Duration) (*server, error) {
	const tries = 3
	for try := 1; ; try++ {
		port, err := freePort()
		if err != nil {
			return nil, err
		}
		s, err := target.startAt(ctx, port, timeout)
		if err == nil || try == tries || !takenBySomebody(port) {
			return s, err
		}
	}
}

// takenBySomebody says whether a server that did not start may have come too late
// for its port.
func takenBySomebody(port uint16) bool {
	listeners, err := sockdiag.Listeners(port)
	return err == nil && len(listeners) > 0
}

func (target Target) startAt(
	ctx context.Context, port uint16, timeout time.Duration,
) (*server, error) {
	addr := netip.AddrPortFrom(loopback, port)
	replace := strings.NewReplacer(
		"{port}", strconv.Itoa(int(port)), "{host}", loopback.String(), "{addr}", addr.String(),
		"{seconds}", strconv.Itoa(int(timeout/time.Second)))
	command := make([]string, len(target.Command))
	for i, arg := range target.Command {
		command[i] = replace.Replace(arg)
	}
	proc, err := process.Start(command, target.Dir)
	if err != nil {
		return nil, err
	}
	s := &server{addr: addr, proc: proc}
	anyPort := target.choosesPort()
	var elsewhere time.Time // since when it has been listening on another port
	listens, err := until(ctx, startWithin, func() (bool, error) {
		at, err := s.listensAt()
		switch {
		case err != nil || !at.IsValid():
			return false, err
		case anyPort || at.Port() == port:
			s.addr = at
			return true, nil
		case elsewhere.IsZero():
			elsewhere = time.Now()
		case time.Since(elsewhere) > elsewhereWithin:
			return false, fmt.Errorf("listens on port %d, and not on %d as it was told", at.Port(), port)
		}
		return false, nil
	})
	if err == nil && !listens {
		err = fmt.Errorf("does not listen after %v", startWithin)
	}
	if err != nil {
		return nil, errors.Join(s.startError(command, anyPort, err), s.end())
	}
	return s, nil
}

var loopback = netip.AddrFrom4([4]byte{127, 0, 0, 1})

// listensAt looks for a listener that the server's processes hold, the one at
// the address that it was told if there is one, and remembers who holds it. It is
// not valid when there is none.
func (s *server) listensAt() (netip.AddrPort, error) {
	var found netip.AddrPort
	if !s.proc.Running() {
		how, _ := s.proc.Status()
		return found, fmt.Errorf("ended before it listened: %s", how)
	}
	listeners, err := sockdiag.Listeners(0)
	if err != nil {
		return found, err
	}
	tree, err := s.proc.Tree()
	if err != nil {
		return found, err
	}
	for _, l := range listeners {
		if found.IsValid() && l.Local.Port() != s.addr.Port() || len(tree) == 0 {
			continue
		}
		holders, err := process.Holders(l.Inode, tree...)
		if err != nil {
			return found, err
		}
		if len(holders) > 0 {
			s.pids = holders
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

func (s *server) startError(command []string, anyPort bool, err error) error {
	hint := "does it listen on the port that {port} becomes?"
	if anyPort {
		hint = "give it a port: write {port} or {addr} where the command takes it," +
			" as in `lesson check -- python3 server.py {port}`"
	}
	words := lastWords(s.proc.Output())
	if words != "" {
		words = "\nits last words: " + words
	}
	return fmt.Errorf("%s: %w; %s%s", strings.Join(command, " "), err, hint, words)
}

// attach finds the processes of a server that we have not started. There may be
// none to be seen: another machine, another user.
func attach(addr netip.AddrPort) (*server, error) {
	s := &server{addr: addr}
	l, err := listenerAt(addr)
	if errors.Is(err, sockdiag.ErrNone) {
		return s, nil
	}
	if err != nil {
		return nil, err
	}
	s.pids, err = process.Holders(l.Inode)
	return s, err
}

// end ends the server if it is ours.
func (s *server) end() error {
	if s == nil || s.proc == nil {
		return nil
	}
	return s.proc.Kill()
}

// all is the server's processes, whether or not they hold the listener: one that
// has been forked for a connection may have closed it.
func (s *server) all() []int {
	if s.proc == nil {
		return s.pids
	}
	tree, err := s.proc.Tree()
	if err != nil || len(tree) == 0 {
		return s.pids
	}
	return tree
}

// used sums up what the server's processes have used.
func (s *server) used() (process.Usage, error) {
	var sum process.Usage
	for _, pid := range s.pids {
		u, err := process.Used(pid)
		if err != nil {
			return sum, err
		}
		sum.Add(u)
	}
	return sum, nil
}

// descriptors counts the open descriptors of the server's processes.
func (s *server) descriptors() (int, error) {
	sum := 0
	for _, pid := range s.pids {
		descriptors, err := process.Descriptors(pid)
		if err != nil {
			return sum, err
		}
		sum += len(descriptors)
	}
	return sum, nil
}

// signal signals the processes that have the listener.
func (s *server) signal(signal unix.Signal) error {
	var err error
	// A pool of processes may have grown since it began to listen.
	if l, found := listenerAt(s.addr); found == nil {
		if holders, seen := process.Holders(l.Inode, s.all()...); seen == nil && len(holders) > 0 {
			s.pids = holders
		}
	}
	for _, pid := range s.pids {
		err = errors.Join(err, process.Signal(pid, signal))
	}
	return err
}

// ended says whether a server of ours has ended.
func (s *server) ended() bool { return s.proc != nil && !s.proc.Running() }

// doing says what the server does while a client waits for it.
func (s *server) doing(ctx context.Context) (string, bool) {
	const window = 100 * time.Millisecond
	if len(s.pids) == 0 {
		return "", false
	}
	if s.ended() {
		return "the server's process has ended", true
	}
	before, err1 := s.used()
	select {
	case <-time.After(window):
	case <-ctx.Done():
	}
	after, err2 := s.used()
	if err1 != nil || err2 != nil {
		return "the server's process has ended", errors.Is(errors.Join(err1, err2), process.ErrGone)
	}
	if use := useOf(after.Since(before)); use.spins(window) {
		return "the server spins: it is never asleep", true
	}
	if call, fd, err := process.StandsIn(s.pids[0]); err == nil {
		return fmt.Sprintf("the server sleeps, in %s(%d, …)", syscount.Name(call), fd), true
	}
	return "the server sleeps", true
}

// ports hands every port out once, so that no two servers of one run want the
// same. They lie below those that the kernel gives to clients.
var ports atomic.Uint32

const (
	firstPort = 10240
	portRange = 20000
)

func init() { ports.Store(rand.Uint32N(portRange)) }

func freePort() (uint16, error) {
	for range portRange {
		port := firstPort + ports.Add(1)%portRange
		l, err := net.Listen("tcp", netip.AddrPortFrom(loopback, uint16(port)).String())
		if err != nil {
			continue
		}
		if err := l.Close(); err != nil {
			return 0, err
		}
		return uint16(port), nil
	}
	return 0, fmt.Errorf("no free port between %d and %d", firstPort, firstPort+portRange)
}

// lastWords is the end of what a server has written, made safe to print.
func lastWords(output []byte) string {
	const most = 400
	text := strings.TrimSpace(string(output[max(0, len(output)-most):]))
	var safe strings.Builder
	for _, r := range text {
		switch {
		case r == '\n' || strconv.IsPrint(r):
			safe.WriteRune(r)
		default:
			safe.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		}
	}
	return safe.String()
}

// stands says whether all of the server stands still after SIGSTOP.
func (s *server) stands() (bool, error) {
	for _, pid := range s.pids {
		stopped, err := process.Stopped(pid)
		if errors.Is(err, process.ErrGone) {
			continue
		}
		if err != nil || !stopped {
			return false, err
		}
	}
	return true, nil
}
