//go:build linux

package child

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"lesson/internal/observe/proc"
	"lesson/internal/observe/ptrace"
)

// keptOutput is how much of the last output is kept, in bytes: the Go runtime says why
// it ends a program before it prints the stacks of many threads.
const keptOutput = 1 << 20

// A Process is a child, and whatever it has started in turn.
type Process struct {
	cmd    *exec.Cmd
	output output
	ended  chan struct{} // closed when the child itself has ended
	state  *os.ProcessState
}

// Start starts the command in dir ("" for here) with env added to the
// environment. It reads nothing and its output is kept, the last 1 MiB of it. It is
// killed when this program ends, however that comes.
func Start(command []string, dir string, env ...string) (*Process, error) {
	p := &Process{ended: make(chan struct{})}
	p.cmd = exec.Command(command[0], command[1:]...)
	p.cmd.Dir = dir
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout = &p.output
	p.cmd.Stderr = &p.output
	// A child of the child may hold the pipe open when the child has ended.
	p.cmd.WaitDelay = 100 * time.Millisecond
	p.cmd.SysProcAttr = &unix.SysProcAttr{
		Setpgid:   true, // Ctrl-C is for us, who then end the server in good order
		Pdeathsig: unix.SIGKILL,
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		// Its system calls may be counted at the time. Wait itself will say if
		// something is wrong with this wait.
		_ = ptrace.AwaitEnd(p.Pid())
		// What Wait says about the status or a pipe is in ProcessState or not
		// of interest: how it ended is for the caller to judge.
		_ = p.cmd.Wait()
		p.state = p.cmd.ProcessState
		close(p.ended)
	}()
	return p, nil
}

// Pid is the child's.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Ended is closed when the child has ended.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// Running says whether the child has not ended yet.
func (p *Process) Running() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// Status is how the child ended, as in "exit status 1" or "signal: killed", and
// whether that is success. Not before Ended.
func (p *Process) Status() (how string, success bool) {
	<-p.ended
	return p.state.String(), p.state.Success()
}

// Output is the last of what it has written, stdout and stderr as they came.
func (p *Process) Output() []byte { return p.output.bytes() }

// Tree is the child and all its descendants that run, the child first. A
// descendant whose own parent has ended is found by its process group.
func (p *Process) Tree() ([]int, error) {
	if !p.Running() {
		return nil, nil
	}
	return proc.Tree(p.Pid())
}

// Kill ends all of the tree at once and waits until the child has ended.
func (p *Process) Kill() error {
	tree, err := p.Tree()
	for _, pid := range tree {
		if killed := Signal(pid, unix.SIGKILL); killed != nil {
			err = errors.Join(err, killed)
		}
	}
	// Whoever was born meanwhile has the child's process group, unless it has
	// left it. ESRCH: there is nobody left.
	if killed := unix.Kill(-p.Pid(), unix.SIGKILL); killed != nil && killed != unix.ESRCH {
		err = errors.Join(err, killed)
	}
	<-p.ended
	return err
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
