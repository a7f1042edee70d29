//go:build linux

package child

import (
	"fmt"
	"os"
	"os/signal"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"lesson/internal/observe/proc"
	"lesson/internal/observe/sockets"
)

// A family is the children of this program, and how it finds their descendants.
//
// A descendant whose parent ends gets another parent: init, unless an ancestor is a
// subreaper. This program is one while it has a child: prctl(2), PR_SET_CHILD_SUBREAPER.
// So an orphan, however often it has forked and whichever session it has created,
// becomes a child of this program. The child that it descends from can be seen by its
// session, which it may have left; by a variable in its environment, which a program may
// have written over, as nginx does; and by its listener, if it is the server.
type family struct {
	mu       sync.Mutex
	started  int              // children so far
	alive    int              // children that have not been released
	children map[int]*Process // those, by process id
	ended    chan os.Signal   // SIGCHLD, while there is a child
}

var ours = &family{children: map[int]*Process{}}

// start starts a child, with its mark in the environment.
func (f *family) start(p *Process, env []string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.started++
	p.mark = fmt.Sprintf("LESSON_CHILD_%d_%d=1", os.Getpid(), f.started)
	p.cmd.Env = append(append(os.Environ(), env...), p.mark)
	if err := f.adopt(); err != nil {
		return err
	}
	if err := p.cmd.Start(); err != nil {
		f.leave()
		return err
	}
	f.children[p.Pid()] = p
	return nil
}

// adopt makes this program a subreaper before its first child starts.
func (f *family) adopt() error {
	if f.alive == 0 {
		if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
			return fmt.Errorf("prctl PR_SET_CHILD_SUBREAPER: %w", err)
		}
		f.ended = make(chan os.Signal, 1)
		signal.Notify(f.ended, unix.SIGCHLD)
		go f.bury(f.ended)
	}
	f.alive++
	return nil
}

// leave undoes adopt, after the last child.
func (f *family) leave() {
	if f.alive--; f.alive == 0 {
		_ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0) // it was possible before
		signal.Stop(f.ended)
		close(f.ended)
	}
}

// release forgets a child whose tree has ended.
func (f *family) release(p *Process) {
	f.waitForOrphans()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.children[p.Pid()] == p {
		delete(f.children, p.Pid())
		f.leave()
	}
}

// orphan reports whether this program is the parent of q and has not started it. What it
// starts otherwise than with Start stays in its session.
func (f *family) orphan(q proc.Process) bool {
	session, err := unix.Getsid(0)
	if err != nil || q.Parent != os.Getpid() {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.children[q.Pid] == nil && q.Session != session
}

// buryEvery bounds how often bury looks for orphans that have ended: SIGCHLD also comes
// for each stop of a traced child.
const buryEvery = 100 * time.Millisecond

// bury waits for orphans that have ended, as init would, for as long as there is a child.
func (f *family) bury(ended <-chan os.Signal) {
	for range ended {
		time.Sleep(buryEvery)
		f.waitForOrphans()
	}
}

func (f *family) waitForOrphans() {
	all, err := proc.All()
	if err != nil {
		return // the next SIGCHLD, or Kill, finds them
	}
	for _, q := range all {
		if q.Zombie && f.orphan(q) {
			_, _ = unix.Wait4(q.Pid, nil, unix.WNOHANG, nil) // a tracer may have done so
		}
	}
}

// treeIn returns those of the processes that belong to a child and run, the child first.
func (p *Process) treeIn(all []proc.Process) []int {
	p.mu.Lock()
	defer p.mu.Unlock()
	var roots []int
	for _, q := range all {
		switch {
		case q.Zombie:
		case q.Pid == p.Pid() && q.Parent == os.Getpid() && p.Running():
			roots = append([]int{q.Pid}, roots...)
		case ours.orphan(q) && p.started(q):
			roots = append(roots, q.Pid)
		}
	}
	p.tree = withDescendants(all, roots)
	return slices.Clone(p.tree)
}

// started reports whether an orphan has been started by the child or by a descendant of
// it. While it ends, its environment cannot be read any more.
func (p *Process) started(orphan proc.Process) bool {
	if orphan.Session == p.Pid() || slices.Contains(p.tree, orphan.Pid) {
		return true
	}
	if marked, err := proc.HasEnv(orphan.Pid, p.mark); marked || err != nil || p.port == 0 {
		return marked
	}
	listeners, err := sockets.Listeners(p.port)
	if err != nil {
		return false
	}
	holders, err := holdersOf(listeners, orphan.Pid)
	return len(holders) > 0 && err == nil
}

// withDescendants returns the roots and all their descendants that run.
func withDescendants(all []proc.Process, roots []int) []int {
	tree := make(map[int]bool, len(roots))
	for _, pid := range roots {
		tree[pid] = true
	}
	list := roots
	for found := true; found; {
		found = false
		for _, q := range all {
			if !q.Zombie && tree[q.Parent] && !tree[q.Pid] {
				tree[q.Pid], found = true, true
				list = append(list, q.Pid)
			}
		}
	}
	return list
}
