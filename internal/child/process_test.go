//go:build linux

package child

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"lesson/internal/observe/proc"
	"lesson/internal/proof"
)

// run runs a script of the shell until the test ends.
func run(t *testing.T, script string) *Process {
	t.Helper()
	p, err := Start([]string{"sh", "-c", script}, "", "GREETING=hello")
	proof.Must(t, err)
	t.Cleanup(func() { proof.Must(t, p.Kill()) })
	return p
}

// said waits until the process has written that.
func said(t *testing.T, p *Process, what string) {
	t.Helper()
	proof.Eventually(t, "it to say "+what, func() bool {
		return strings.Contains(string(p.Output()), what)
	})
}

func tree(t *testing.T, p *Process) []int {
	t.Helper()
	tree, err := p.Tree()
	proof.Must(t, err)
	return tree
}

func TestAChildThatEnds(t *testing.T) {
	p := run(t, "echo $GREETING; echo $PWD >&2; exit 3")
	<-p.Ended()
	if how, ok := p.Status(); how != "exit status 3" || ok {
		t.Errorf("ended with %q, success %v", how, ok)
	}
	dir, err := os.Getwd()
	proof.Must(t, err)
	if got, want := string(p.Output()), "hello\n"+dir+"\n"; got != want {
		t.Errorf("wrote %q, want %q", got, want)
	}
	if tree, err := p.Tree(); len(tree) != 0 || err != nil {
		t.Errorf("its tree is %v, %v", tree, err)
	}
}

func TestNoSuchCommand(t *testing.T) {
	if _, err := Start([]string{"/no/such/command"}, ""); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want %v", err, os.ErrNotExist)
	}
}

func TestOnlyTheEndOfTheOutputIsKept(t *testing.T) {
	const kept = 1 << 20
	p := run(t, "head -c 3000000 /dev/zero | tr '\\0' x; echo end")
	<-p.Ended()
	out := string(p.Output())
	if len(out) != kept || !strings.HasSuffix(out, "x\nend\n") && !strings.HasSuffix(out, "xend\n") {
		t.Errorf("%d bytes are kept, which end in %q", len(out), out[max(0, len(out)-10):])
	}
}

// What a child has written before its end is kept, however late this program comes to read
// it, also while another process has the pipe.
func TestTheEndOfTheOutputIsNotLost(t *testing.T) {
	const size = 60_000 // the pipe holds it
	p := run(t, fmt.Sprintf("sleep 60 & head -c %d /dev/zero | tr '\\0' x; echo end", size))
	p.output.mu.Lock() // as if what reads it did not run
	proof.Must(t, proc.AwaitEnd(p.Pid()))
	time.Sleep(200 * time.Millisecond)
	p.output.mu.Unlock()
	<-p.Ended()
	if out := string(p.Output()); len(out) != size+len("end\n") || !strings.HasSuffix(out, "xend\n") {
		t.Errorf("%d bytes are kept, which end in %q", len(out), out[max(0, len(out)-10):])
	}
}

// families are scripts that start processes which sleep. Each writes the numbers of
// those that it does not end itself, and then "ready".
var families = []struct{ name, script string }{
	{"a child of the child", "sleep 60 & echo $!; echo ready; wait"},
	{"in a session of its own", "setsid sh -c 'echo $$; echo ready; exec sleep 60' & wait"},
	{"an orphan", "(sleep 60 & echo $!); echo ready; exec sleep 60"},
	{"an orphan in a session of its own",
		"(setsid sh -c 'sleep 60 & echo $!; echo ready' &); exec sleep 60"},
	{"orphans of orphans", "(setsid sh -c '(setsid sh -c \"sleep 60 & echo \\$!; echo ready\" &)' &); exec sleep 60"},
	{"a program that has become a daemon", "setsid sh -c 'sleep 60 & echo $!; echo ready'; exit 0"},
}

// Whatever a child has started ends with it, however it has left its parent.
func TestTheWholeTreeEnds(t *testing.T) {
	for _, family := range families {
		t.Run(family.name, func(t *testing.T) {
			p := run(t, family.script)
			said(t, p, "ready")
			words := strings.Fields(string(p.Output()))
			pid, err := strconv.Atoi(words[0])
			proof.Must(t, err)
			proof.Eventually(t, "it to be in the tree", func() bool { return slices.Contains(tree(t, p), pid) })
			proof.Must(t, p.Kill())
			if left := tree(t, p); len(left) > 0 {
				t.Errorf("processes %v are left", left)
			}
			if _, err := proc.ReadStatus(pid); !errors.Is(err, proc.ErrGone) {
				t.Errorf("process %d is still there: %v", pid, err)
			}
			proof.Must(t, p.Kill()) // again does no harm
		})
	}
}

func TestKilledChild(t *testing.T) {
	p := run(t, "exec sleep 60")
	proof.Must(t, p.Kill())
	if how, success := p.Status(); how != "signal: killed" || success {
		t.Errorf("ended with %q, %v", how, success)
	}
}

// An orphan belongs to the child that it descends from, and no other.
func TestTwoFamilies(t *testing.T) {
	const script = "(setsid sh -c 'sleep 60 & echo $!; echo ready' &); exec sleep 60"
	one, other := run(t, script), run(t, script)
	said(t, one, "ready")
	said(t, other, "ready")
	proof.Eventually(t, "both trees to be whole", func() bool {
		return len(tree(t, one)) == 2 && len(tree(t, other)) == 2
	})
	proof.Must(t, one.Kill())
	if left := tree(t, other); len(left) != 2 {
		t.Errorf("of the other, only %v run", left)
	}
}

// Orphans that end are waited for while their child runs, as init would.
func TestOrphansAreWaitedFor(t *testing.T) {
	p := run(t, "for i in 1 2 3; do (setsid sleep 0.01 &); (sleep 0.01 &); done; echo ready; exec sleep 60")
	said(t, p, "ready")
	proof.Eventually(t, "no zombie to be left", func() bool {
		all, err := proc.All()
		proof.Must(t, err)
		return !slices.ContainsFunc(all, func(q proc.Process) bool {
			return q.Zombie && q.Parent == os.Getpid()
		}) && len(tree(t, p)) == 1
	})
}

// This program is a subreaper only while it has a child: other orphans are init's.
func TestSubreaperWhileThereIsAChild(t *testing.T) {
	reaps := func() bool {
		var on int32
		proof.Must(t, unix.Prctl(unix.PR_GET_CHILD_SUBREAPER, uintptr(unsafe.Pointer(&on)), 0, 0, 0))
		return on != 0
	}
	if reaps() {
		t.Error("a subreaper without a child")
	}
	p := run(t, "exec sleep 60")
	if !reaps() {
		t.Error("no subreaper with a child")
	}
	proof.Must(t, p.Kill())
	if reaps() {
		t.Error("a subreaper after the last child")
	}
	if _, err := Start([]string{"/no/such/command"}, ""); err == nil || reaps() {
		t.Errorf("a subreaper without a child: %v", err)
	}
}

// A process group whose leader has been waited for may belong to others.
func TestKillAfterTheEndSignalsNoGroup(t *testing.T) {
	p := run(t, "exit 0")
	<-p.Ended()
	other, err := os.StartProcess("/bin/sleep", []string{"sleep", "60"}, &os.ProcAttr{
		Sys: &unix.SysProcAttr{Setpgid: true},
	})
	proof.Must(t, err)
	defer func() {
		proof.Must(t, other.Kill())
		_, err := other.Wait()
		proof.Must(t, err)
	}()
	proof.Must(t, p.Kill())
	if s, err := proc.ReadStatus(other.Pid); err != nil || s.Ended() {
		t.Errorf("another child of this program has ended: %+v, %v", s, err)
	}
}
