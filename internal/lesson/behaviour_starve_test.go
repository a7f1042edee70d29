//go:build linux

package lesson_test

import (
	"fmt"
	"os"
	"os/exec"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lesson/internal/kernel"
	"lesson/internal/lesson"
	"lesson/internal/observe/trace"
	"lesson/internal/play"
	"lesson/internal/proof"
	"lesson/internal/server"
)

// starving is what a server does when accept4 fails for a while: B8.
var starving = []behaviour{
	{"B8 a temporary error of accept4 costs no client its answer", traced, acceptFails},
	{"B8 out of descriptors it neither spins nor needs a further client", traced, starvesCalmly},
}

// acceptFails: the clients are in the accept queue before the server looks. The
// errors take the event that announced them, and no further client comes.
func acceptFails(t *T, l lesson.Lesson) {
	passing := []error{
		unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM,
		unix.ECONNABORTED, unix.EPERM, unix.EPROTO, unix.ENETDOWN, unix.EHOSTUNREACH, unix.EINTR,
	}
	for _, err := range passing {
		t.Run(err.(unix.Errno).Error(), func(t *T) {
			r := newRig(t, l)
			r.wrap = faulty(kernel.Script(script{"accept4": fail(err, err)}))
			s := r.listen()
			waiting := 3
			if r.onlyOne() {
				waiting = 1
			}
			var conns []*play.Conn
			for range waiting {
				c := r.dialTo(s.Addr())
				proof.Must(t, c.Send([]byte(request)))
				conns = append(conns, c)
			}
			s.serve()
			for _, c := range conns {
				answered(t, c, response)
				proof.Must(t, c.Close())
			}
			r.counted(counts{accepted: int64(waiting), served: int64(waiting)})
		})
	}
}

// starvedCalls is what a starving server may do in so long a time: it pauses
// for 100 ms, and a pause costs it an epoll_wait, which may count twice,
// accept4, and epoll_ctl twice. Twice that is still calm.
func starvedCalls(in time.Duration) int64 {
	return 10 * (int64(in/server.AcceptPause) + 1)
}

const starvedFor = 300 * time.Millisecond

// calm wants a server to make few calls, and to use little processor time, in one of a few
// times: a virtual machine that is stopped in the middle may count that as processor time.
func calm(t *testing.T, made func() int64) {
	t.Helper()
	const tries = 5
	var failed []string
	for range tries {
		began := time.Now()
		calls, busy := made(), processorTime(t)
		time.Sleep(starvedFor)
		took := time.Since(began)
		calls, busy = made()-calls, processorTime(t)-busy
		if most := starvedCalls(took); calls > most {
			failed = append(failed, fmt.Sprintf("%d system calls in %v, want at most %d", calls, took, most))
		} else if busy > took/2 && os.Getenv(starvedChild) != "" {
			failed = append(failed, fmt.Sprintf("%v of processor time in %v", busy, took))
		} else {
			return
		}
	}
	t.Errorf("it is not calm: %q", failed)
}

func starvesCalmly(t *T, l lesson.Lesson) {
	var starving atomic.Bool
	var failed atomic.Int64
	starving.Store(true)
	r := newRig(t, l)
	r.wrap = faulty(func(name string, fd int) (kernel.Fault, bool) {
		if name != "accept4" || !starving.Load() {
			return kernel.Fault{}, false
		}
		failed.Add(1)
		return kernel.Fault{Err: unix.EMFILE}, true
	})
	s := r.listen()
	c := r.dialTo(s.Addr())
	proof.Must(t, c.Send([]byte(request)))
	s.serve()
	proof.Eventually(t, "accept4 has failed", func() bool { return failed.Load() > 0 })
	calm(t.T, func() int64 { return s.calls() + failed.Load() }) // a failed one is not made
	starving.Store(false)
	answered(t, c, response)
}

// starvedChild names, in the environment, the lesson that a child process is to
// starve. The limit on descriptors is one of the process: it needs its own.
const starvedChild = "LESSON_TEST_STARVED_CHILD"

// This one is no row of the table, because it must not run beside another: until
// a child has called exec, it holds every descriptor of its parent. What a server
// in the parent closes meanwhile stays open, and in its interest list too.
func TestBehaviourOutOfDescriptors(t *testing.T) {
	for _, l := range lesson.All() {
		t.Run(l.Name+"/B8 out of descriptors for real it serves waiting clients", func(t *testing.T) {
			t.Parallel()
			child := exec.Command(os.Args[0], "-test.run=^TestStarvedChild$", "-test.timeout=60s")
			child.Env = append(os.Environ(), starvedChild+"="+l.Name)
			if out, err := child.CombinedOutput(); err != nil {
				t.Errorf("%v:\n%s", err, out)
			}
		})
	}
}

func TestStarvedChild(t *testing.T) {
	name := os.Getenv(starvedChild)
	if name == "" {
		t.Skip("runs in a process of its own, started by TestBehaviourOutOfDescriptors")
	}
	l, err := lesson.Find(name)
	proof.Must(t, err)
	proof.Must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 64, Max: 64}))

	var failed atomic.Int64
	w := watcher{leave: func(c *trace.Call) {
		if c.Name == "accept4" && c.Err == unix.EMFILE {
			failed.Add(1)
		}
	}}
	r := newRig(onLinux(t), l)
	r.wrap = w.over
	s := r.listen()
	c := r.dialTo(s.Addr())
	proof.Must(t, c.Send([]byte(request)))
	taken := takeAll(t)
	s.serve()
	if traced(l) {
		proof.Eventually(t, "accept4 has failed", func() bool { return failed.Load() > 0 })
	}

	calm(t, s.calls)
	if got := r.counts(); got != (counts{}) {
		t.Errorf("counted %+v without a descriptor to spare", got)
	}

	for _, fd := range taken {
		proof.Must(t, unix.Close(fd))
	}
	answered(t, c, response) // without a further client
	proof.Must(t, c.Close())
	r.counted(counts{accepted: 1, served: 1})

	taken = takeAll(t)
	r.stopsInTime()
	for _, fd := range taken {
		proof.Must(t, unix.Close(fd))
	}
}

// takeAll takes every descriptor that is left.
func takeAll(t *testing.T) (taken []int) {
	for {
		fd, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == unix.EMFILE {
			return taken
		}
		if err == nil {
			taken = append(taken, fd)
		} else if err != unix.EINTR {
			t.Fatal(fmt.Errorf("open: %w", err))
		}
	}
}

// processorTime is what this process has used so far.
func processorTime(t *testing.T) time.Duration {
	var usage unix.Rusage
	proof.Must(t, unix.Getrusage(unix.RUSAGE_SELF, &usage))
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
