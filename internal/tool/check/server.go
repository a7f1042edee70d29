//go:build linux

package check

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"lesson/internal/child"
	"lesson/internal/observe/proc"
	"lesson/internal/observe/ptrace"
	"lesson/internal/observe/sockets"
)

// A server is the one that is judged: a process of ours, or somebody else's.
type server struct {
	addr netip.AddrPort
	proc *child.Process // nil: we have not started it
	pids []int          // the processes that have the listener; none when they cannot be seen
}

// start starts the target and returns when it listens.
func (target Target) start(ctx context.Context, timeout time.Duration) (*server, error) {
	return asServer(target.program(timeout).Start(ctx))
}

// startAt is start on that port.
func (target Target) startAt(
	ctx context.Context, port uint16, timeout time.Duration,
) (*server, error) {
	return asServer(target.program(timeout).StartAt(ctx, netip.AddrPortFrom(loopback, port)))
}

func (target Target) program(timeout time.Duration) child.Program {
	seconds := strings.NewReplacer("{seconds}", strconv.Itoa(int(timeout/time.Second)))
	command := make([]string, len(target.Command))
	for i, arg := range target.Command {
		command[i] = seconds.Replace(arg)
	}
	return child.Program{Command: command, Dir: target.Dir}
}

func asServer(s *child.Server, err error) (*server, error) {
	if err != nil {
		return nil, err
	}
	return &server{addr: s.Addr, proc: s.Proc, pids: s.Pids}, nil
}

var loopback = netip.AddrFrom4([4]byte{127, 0, 0, 1})

// attach finds the processes of a server that we have not started. There may be
// none to be seen: another machine, another user.
func attach(addr netip.AddrPort) (*server, error) {
	s := &server{addr: addr}
	l, err := listenerAt(addr)
	if errors.Is(err, sockets.ErrNone) {
		return s, nil
	}
	if err != nil {
		return nil, err
	}
	s.pids, err = proc.Holders(l.Inode)
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
func (s *server) used() (proc.Usage, error) { return usedBy(s.pids) }

func usedBy(pids []int) (proc.Usage, error) {
	var sum proc.Usage
	for _, pid := range pids {
		u, err := proc.Used(pid)
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
		descriptors, err := proc.Descriptors(pid)
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
		if holders, seen := proc.Holders(l.Inode, s.all()...); seen == nil && len(holders) > 0 {
			s.pids = holders
		}
	}
	for _, pid := range s.pids {
		err = errors.Join(err, child.Signal(pid, signal))
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
		return "the server's process has ended", errors.Is(errors.Join(err1, err2), proc.ErrGone)
	}
	if use := useOf(after.Since(before)); use.spins(window) {
		return "the server spins: it is never asleep", true
	}
	return s.sleeping(), true
}

// sleeping says where a server sleeps.
func (s *server) sleeping() string {
	if call, fd, err := proc.StandsIn(s.pids[0]); err == nil {
		return fmt.Sprintf("the server sleeps, in %s(%d, …)", ptrace.Name(call), fd)
	}
	return "the server sleeps"
}

// stands says whether all of the server stands still after SIGSTOP.
func (s *server) stands() (bool, error) {
	for _, pid := range s.pids {
		stopped, err := proc.Stopped(pid)
		if errors.Is(err, proc.ErrGone) {
			continue
		}
		if err != nil || !stopped {
			return false, err
		}
	}
	return true, nil
}
