//go:build linux

package child

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"lesson/internal/observe/proc"
)

// keptOutput is how much of the last output is kept, in bytes: the Go runtime says why
// it ends a program before it prints the stacks of many threads.
const keptOutput = 1 << 20

// A Process is a child of this program, and all that it has started in turn. It must be
// ended with Kill, also when it has ended by itself: what it started may live on.
type Process struct {
	cmd    *exec.Cmd
	mark   string // a variable in the environment of all that it starts
	port   uint16 // that the child was given to listen on; 0 for none
	output output
	ended  chan struct{} // closed when the child itself has ended
	state  *os.ProcessState

	mu   sync.Mutex
	tree []int // when it was last looked at
}

// Start starts the command in dir ("" for here) with env added to the environment. It
// reads nothing, and the last 1 MiB of its output is kept. It is killed when this
// program ends, however that happens.
func Start(command []string, dir string, env ...string) (*Process, error) {
	p := &Process{ended: make(chan struct{})}
	p.cmd = exec.Command(command[0], command[1:]...)
	p.cmd.Dir = dir
	read, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	p.cmd.Stdout, p.cmd.Stderr = write, write
	p.cmd.SysProcAttr = &unix.SysProcAttr{
		Setsid:    true, // Ctrl-C is for this program, which then ends the child in good order
		Pdeathsig: unix.SIGKILL,
	}
	err = ours.start(p, env)
	_ = write.Close() // the child has it
	if err != nil {
		_ = read.Close()
		return nil, notStarted(command[0], err)
	}
	kept := make(chan struct{})
	go func() {
		defer close(kept)
		_, _ = io.Copy(&p.output, read) // up to the end, or to a deadline
	}()
	go func() {
		// Its system calls may be counted at the time. Wait itself will say if
		// something is wrong with this wait.
		_ = proc.AwaitEnd(p.Pid())
		// What Wait says is in ProcessState: how the child ended is for the caller to judge.
		_ = p.cmd.Wait()
		p.state = p.cmd.ProcessState
		p.keepRest(read, kept)
		close(p.ended)
	}()
	return p, nil
}

// notFound is the hint for a command that does not exist.
const notFound = "build it first, or check its path"

// notStarted returns why a command could not be started, with what to try.
func notStarted(program string, err error) error {
	hint := "check the command"
	switch {
	case strings.Contains(program, " "):
		hint = "give the command and its arguments as separate words, without quotes around all of them"
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, fs.ErrNotExist):
		hint = notFound
	case errors.Is(err, fs.ErrPermission):
		hint = "it must be a program: chmod +x " + program
	}
	if path := (*fs.PathError)(nil); errors.As(err, &path) && path.Op == "fork/exec" {
		err = path.Err // without the path once more
	}
	return fmt.Errorf("cannot start %s: %w; %s", program, err, hint)
}

// keepRest keeps what a child that has ended has written, down to the last byte. Its own
// children may hold the pipe open: they may still write for a moment.
func (p *Process) keepRest(read *os.File, kept <-chan struct{}) {
	const moment = 100 * time.Millisecond
	defer read.Close()
	select {
	case <-kept:
		return
	case <-time.After(moment):
	}
	if err := read.SetReadDeadline(time.Now()); err != nil {
		return
	}
	<-kept
	// When this program did not run for that moment, it has not read what is in the pipe.
	raw, err := read.SyscallConn()
	if err != nil {
		return
	}
	var left int
	_ = raw.Control(func(fd uintptr) { left, err = unix.IoctlGetInt(int(fd), unix.TIOCINQ) })
	if err == nil && read.SetReadDeadline(time.Time{}) == nil {
		_, _ = io.CopyN(&p.output, read, int64(left)) // all of it is there
	}
}

// Pid returns the process id of the child.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Ended returns a channel that is closed when the child has ended.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// Running reports whether the child has not ended yet.
func (p *Process) Running() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// Status waits until the child has ended and returns how, as in "exit status 1" or
// "signal: killed", and whether that is success.
func (p *Process) Status() (how string, success bool) {
	<-p.ended
	return p.state.String(), p.state.Success()
}

// Output returns the last of what it has written, stdout and stderr as they came.
func (p *Process) Output() []byte { return p.output.bytes() }

// Tree returns the child and all its descendants that run now, the child first. A
// descendant belongs to it however late it was started, in whichever session, and
// whether or not the child still runs.
func (p *Process) Tree() ([]int, error) {
	all, err := proc.All()
	if err != nil {
		return nil, err
	}
	return p.treeIn(all), nil
}

// killWithin bounds Kill: a process in an uninterruptible sleep does not end before it
// wakes.
const killWithin = 10 * time.Second

// endsWithin is how long Kill waits for the child before it looks again.
const endsWithin = 20 * time.Millisecond

// Kill ends all of the tree at once, and returns when none of it runs any more. Another
// Kill does nothing.
func (p *Process) Kill() error {
	defer ours.release(p)
	deadline := time.Now().Add(killWithin)
	// One that has just forked may end while the others are looked at, and its child is
	// then found only by the next look.
	const looks = 2
	for none := 0; none < looks; time.Sleep(time.Millisecond) {
		tree, err := p.Tree()
		if err != nil {
			return err
		}
		if none++; len(tree) > 0 {
			none = 0
		}
		if len(tree) > 0 && time.Now().After(deadline) {
			return fmt.Errorf("processes %v are still running %v after SIGKILL", tree, killWithin)
		}
		for _, pid := range tree {
			err = errors.Join(err, p.signal(pid, unix.SIGKILL))
		}
		if err != nil {
			return err
		}
		if len(tree) > 0 { // a look at all processes takes longer than most take to end
			select {
			case <-p.ended:
			case <-time.After(endsWithin):
			}
		}
	}
	<-p.ended
	return nil
}

// signal signals a process of the tree. The child itself is signalled through the pidfd
// that os/exec holds, so that its number may have a new owner.
func (p *Process) signal(pid int, signal unix.Signal) error {
	if pid != p.Pid() {
		return Signal(pid, signal)
	}
	if err := p.cmd.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return nil
}

// Signal sends a signal to one process. One that is gone is no error.
func Signal(pid int, signal unix.Signal) error {
	if err := unix.Kill(pid, signal); err != nil && err != unix.ESRCH {
		return fmt.Errorf("kill %d: %w", pid, err)
	}
	return nil
}

// output keeps the end of what is written to it, and never makes a writer wait.
type output struct {
	mu   sync.Mutex
	last []byte
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.last = append(o.last, p...)
	if len(o.last) > 2*keptOutput { // now and then, and not with each write
		o.last = append(o.last[:0], o.last[len(o.last)-keptOutput:]...)
	}
	return len(p), nil
}

func (o *output) bytes() []byte {
	o.mu.Lock()
	defer o.mu.Unlock()
	return bytes.Clone(o.last[max(0, len(o.last)-keptOutput):])
}
