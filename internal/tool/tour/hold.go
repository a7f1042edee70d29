//go:build linux

package tour

import (
	"maps"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"lesson/internal/observe/proc"
)

// A brake holds the calls of a server. A call that it holds has been made, or is about to
// be, and the server learns of that only after release. So the server is stopped, as
// after SIGSTOP, while the kernel continues. The zero value holds nothing.
type brake struct {
	mu   sync.Mutex
	held chan struct{} // closed by release; nil while nothing is held
}

// pass returns when nothing is held.
func (b *brake) pass() {
	b.mu.Lock()
	held := b.held
	b.mu.Unlock()
	if held != nil {
		<-held
	}
}

// hold makes calls wait. To hold twice is to hold once.
func (b *brake) hold() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.held == nil {
		b.held = make(chan struct{})
	}
}

func (b *brake) release() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.held != nil {
		close(b.held)
	}
	b.held = nil
}

// hold freezes or rations a server of the session.
func (s *session) hold(id string, on bool, how func(*column, bool) error) error {
	c, err := s.find(id)
	if err != nil {
		return err
	}
	if err := how(c, on); err != nil {
		return failure(err)
	}
	s.lookSoon()
	return nil
}

// freeze stops the server, or lets it continue: one whose calls are traced at its next
// call, another program by SIGSTOP and SIGCONT.
func (c *column) freeze(on bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.run == nil:
		return badRequest("%s does not run", c.about.Lesson).hint("start it again")
	case !c.about.Untraced && on:
		c.brake.hold()
	case !c.about.Untraced:
		c.brake.release()
	case c.run.pid() == self:
		return badRequest("%s cannot be frozen: its calls are not traced", c.about.Lesson)
	default:
		signal := unix.SIGCONT
		if on {
			signal = unix.SIGSTOP
		}
		if err := unix.Kill(c.run.pid(), signal); err != nil {
			return err
		}
	}
	c.about.Frozen = on
	c.tell(listening, nil)
	return nil
}

// ration takes the descriptors from the server that it does not use, or gives them back.
func (c *column) ration(on bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.run == nil {
		return badRequest("%s does not run", c.about.Lesson).hint("start it again")
	}
	if err := c.run.ration(on); err != nil {
		return err
	}
	c.about.Rationed = on
	c.tell(listening, nil)
	return nil
}

// ration makes accept4 of the lesson fail with EMFILE.
func (r *lessonRun) ration(on bool) error {
	if r.descriptors == nil {
		return badRequest("its calls are not traced, so its descriptors cannot be counted")
	}
	r.descriptors.mu.Lock()
	defer r.descriptors.mu.Unlock()
	r.descriptors.none = on
	return nil
}

// ration sets RLIMIT_NOFILE of the process below the first descriptor that is free.
func (r *childRun) ration(on bool) error {
	var limit unix.Rlimit
	if err := unix.Prlimit(r.pid(), unix.RLIMIT_NOFILE, nil, &limit); err != nil {
		return err
	}
	limit.Cur = limit.Max
	if on {
		used, err := proc.Descriptors(r.pid())
		if err != nil {
			return err
		}
		limit.Cur = firstFree(used)
	}
	return unix.Prlimit(r.pid(), unix.RLIMIT_NOFILE, &limit, nil)
}

// firstFree returns the lowest number that is no descriptor: the next to be given out.
func firstFree(used map[int]string) uint64 {
	fds := slices.Sorted(maps.Keys(used))
	for i, fd := range fds {
		if i != fd {
			return uint64(i)
		}
	}
	return uint64(len(fds))
}
