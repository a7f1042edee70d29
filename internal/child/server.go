//go:build linux

package child

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"lesson/internal/observe/proc"
	"lesson/internal/observe/sockets"
)

// A Server listens: a Program that has been started, or one that ran already.
type Server struct {
	Addr netip.AddrPort
	Proc *Process // nil when this program has not started it

	mu      sync.Mutex
	holders []int // the processes that had the listener when last looked at

	// Until it listens: the listeners that were not its own when last looked at.
	others []sockets.Socket
	looked time.Time
}

// At returns the server that listens at addr, which this program has not started. It has
// no processes where they cannot be seen: on another machine, of another user.
func At(addr netip.AddrPort) (*Server, error) {
	s := &Server{Addr: addr}
	err := s.findHolders(nil)
	return s, err
}

// findHolders looks for the processes that have the server's listener, among those given
// or among all, and remembers them if there are any.
func (s *Server) findHolders(among []int) error {
	listeners, err := sockets.ListenersAt(s.Addr)
	if err != nil {
		return err
	}
	holders, err := holdersOf(listeners, among...)
	if len(holders) > 0 {
		s.holders = holders
	}
	return err
}

// Listening returns the processes that have a listener on a port of any address, the
// lowest id first. That there is none is an error.
func Listening(port uint16) ([]int, error) {
	listeners, err := sockets.Listeners(port)
	if err != nil {
		return nil, err
	}
	pids, err := holdersOf(listeners)
	if err == nil && len(pids) == 0 {
		err = fmt.Errorf("no process of yours listens on port %d; is the server running?", port)
	}
	return pids, err
}

// holdersOf returns the processes that have one of the listeners, among those given or
// among all, the lowest id first.
func holdersOf(listeners []sockets.Socket, among ...int) ([]int, error) {
	var pids []int
	for _, l := range listeners { // more than one with SO_REUSEPORT
		holders, err := proc.Holders(l.Inode, among...)
		if err != nil {
			return nil, err
		}
		pids = append(pids, holders...)
	}
	slices.Sort(pids)
	return slices.Compact(pids), nil
}

// Pids returns the processes of the server as they are now, however late it has started
// them: those that have the listener come first. A program that has only started the
// server, like a shell or go run, is none of them. When all have ended, it returns the
// last that had the listener. There are none only where they cannot be seen.
func (s *Server) Pids() []int {
	s.mu.Lock()
	defer s.mu.Unlock()
	all, err := proc.All()
	if err != nil {
		return slices.Clone(s.holders)
	}
	tree := s.treeIn(all)
	known := func(pid int) bool { return slices.Contains(s.holders, pid) }
	if !slices.ContainsFunc(tree, known) {
		if len(tree) > 0 && s.Proc != nil {
			_ = s.findHolders(tree) // those that are known are as good as none
		}
		if !slices.ContainsFunc(tree, known) {
			return slices.Clone(s.holders)
		}
	}
	parent := make(map[int]int, len(all))
	for _, p := range all {
		parent[p.Pid] = p.Parent
	}
	starters := map[int]bool{}
	for _, pid := range s.holders {
		for up := parent[pid]; slices.Contains(tree, up); up = parent[up] {
			starters[up] = true
		}
	}
	var first, rest []int
	for _, pid := range tree {
		switch {
		case known(pid):
			first = append(first, pid)
		case !starters[pid]:
			rest = append(rest, pid)
		}
	}
	return append(first, rest...)
}

func (s *Server) treeIn(all []proc.Process) []int {
	if s.Proc != nil {
		return s.Proc.treeIn(all)
	}
	var roots []int
	for _, p := range all {
		if !p.Zombie && slices.Contains(s.holders, p.Pid) {
			roots = append(roots, p.Pid)
		}
	}
	return withDescendants(all, roots)
}

// Pid returns the first of the processes that had the listener when last looked at: often
// a child of Proc. It is 0 where there are none.
func (s *Server) Pid() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.holders) == 0 {
		return 0
	}
	return s.holders[0]
}

// Ended reports whether a server of ours has ended.
func (s *Server) Ended() bool { return s.Proc != nil && !s.Proc.Running() }

// Each calls look for each of the server's processes. One that has ended meanwhile
// (proc.ErrGone) is skipped; when all have, that is the error.
func (s *Server) Each(look func(pid int) error) error {
	ended := proc.ErrGone
	for _, pid := range s.Pids() {
		switch err := look(pid); {
		case err == nil:
			ended = nil
		case !errors.Is(err, proc.ErrGone):
			return err
		}
	}
	return ended
}

// Used adds up what the server's processes have used. proc.ErrGone when all have ended.
func (s *Server) Used() (sum proc.Usage, err error) {
	err = s.Each(func(pid int) error {
		one, err := proc.Used(pid)
		if err == nil {
			sum.Add(one)
		}
		return err
	})
	return sum, err
}

// Signal signals the processes that have the listener now.
func (s *Server) Signal(signal unix.Signal) error {
	all := s.Pids()
	s.mu.Lock()
	defer s.mu.Unlock()
	// A pool of processes may have grown since it began to listen.
	if err := s.findHolders(all); err != nil {
		return err
	}
	var err error
	for _, pid := range s.holders {
		err = errors.Join(err, Signal(pid, signal))
	}
	return err
}

// Stopped reports whether SIGSTOP has stopped all of the processes that Signal sends it.
// Those that have ended are not waited for.
func (s *Server) Stopped() (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, pid := range s.holders {
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

// stopWithin is how long a server may take to stop.
const stopWithin = 3 * time.Second

// Stop asks the server to stop, by SIGTERM, and ends it with End when it has, or has
// not within 3 s.
func (s *Server) Stop() error {
	err := s.Signal(unix.SIGTERM)
	select {
	case <-s.Proc.Ended():
	case <-time.After(stopWithin):
		err = errors.Join(err, fmt.Errorf("not stopped %v after SIGTERM", stopWithin))
	}
	return errors.Join(err, s.End())
}

// End ends the server at once, with all its children, if this program has started it.
func (s *Server) End() error {
	if s == nil || s.Proc == nil {
		return nil
	}
	return s.Proc.Kill()
}
