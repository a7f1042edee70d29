//go:build linux

package lesson_test

import (
	"io"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lesson/internal/lesson"
	"lesson/internal/proof"
)

// What is counted for the whole process is counted here, in tests that run
// alone: TestBehaviour's run side by side, but only with each other.

func TestAServerGivesBackEveryDescriptorAndGoroutine(t *testing.T) {
	for _, l := range lesson.All() {
		t.Run(l.Name, func(t *testing.T) {
			before := settled(t)
			t.Run("serves", func(t *testing.T) {
				r := newRig(onLinux(t), l)
				if r.onlyOne() {
					r.asks()
					return
				}
				r.asks()
				resets := r.dial()
				proof.Must(t, resets.Send([]byte("GET /")))
				proof.Must(t, resets.Reset())
				leaves := r.dial()
				proof.Must(t, leaves.Send([]byte("GET /")))
				proof.Must(t, leaves.Close())
				large := r.dial()
				proof.Must(t, large.Send(sized(maxRequest+1)))
				answered(t, large, tooLarge)
				proof.Must(t, large.Close())
				lingers := r.dial()
				proof.Must(t, lingers.Send([]byte(request)))
				answered(t, lingers, response)
				proof.Must(t, lingers.Close())
				half := r.dial() // still there at the end
				proof.Must(t, half.Send([]byte("GET /")))
				digested(r.t, half)
			})
			t.Run("lets the time run out", func(t *testing.T) {
				r := newRig(onLinux(t), l)
				r.options.Timeout = short
				unanswered(t, r.dial())
			})
			after := holdingNow()
			for end := time.Now().Add(patience); after.more(before) && time.Now().Before(end); {
				time.Sleep(time.Millisecond)
				after = holdingNow()
			}
			if after.more(before) { // less, when something of the test before was left after all
				t.Errorf("%+v before, %+v after", before, after)
			}
		})
	}
}

// settled is what the process holds when the goroutines of the test before have
// gone: when it has not changed for a while.
func settled(t *testing.T) holding {
	last, since := holdingNow(), time.Now()
	proof.Eventually(t, "nothing of the test before is left", func() bool {
		if now := holdingNow(); now != last {
			last, since = now, time.Now()
		}
		return time.Since(since) > 50*time.Millisecond
	})
	return last
}

// An event loop that allocates for each request gives the garbage collector
// work for each request. The client is made of bare system calls, which do not
// allocate, and both live in this process: whatever is allocated here is the
// server's, or the runtime's now and then.
func TestARequestCostsNoAllocation(t *testing.T) {
	const warmUp, requests, most = 200, 2000, 0.1
	cases := []struct {
		name    string
		to      io.Writer
		request string
		answer  string
	}{
		{"quiet", nil, request, response},
		{"printing", io.Discard, request, response},
		{"refused", nil, string(sized(maxRequest + 1)), tooLarge},
		{"not complete", nil, "GET /", ""},
	}
	for _, l := range lesson.All() {
		if !eventLoop(l) {
			continue
		}
		for _, k := range cases {
			t.Run(l.Name+"/"+k.name, func(t *testing.T) {
				r := newRig(onLinux(t), l)
				r.options.Requests = k.to
				// Without the rig's ledger, which is not part of the lesson.
				s, err := l.Start(l.Kernel(), r.options)
				proof.Must(t, err)
				ended := make(chan error, 1)
				go func() { ended <- s.Serve() }()
				defer func() {
					s.Stop()
					proof.Must(t, <-ended)
				}()
				c := bareClient{
					addr: &unix.SockaddrInet4{
						Addr: s.Addr().Addr().As4(), Port: int(s.Addr().Port()),
					},
					request: []byte(k.request),
					answer:  len(k.answer),
					buffer:  make([]byte, 4096),
					timeout: unix.NsecToTimeval(patience.Nanoseconds()),
				}
				for range warmUp {
					proof.Must(t, c.ask())
				}
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				for range requests {
					if err := c.ask(); err != nil {
						t.Fatal(err)
					}
				}
				runtime.ReadMemStats(&after)
				each := float64(after.Mallocs-before.Mallocs) / requests
				t.Logf("%.4f allocations per request", each)
				if each > most {
					t.Errorf("%.3f allocations per request, want less than %v", each, most)
				}
			})
		}
	}
}

// bareClient asks through bare system calls, and allocates nothing.
type bareClient struct {
	addr    *unix.SockaddrInet4
	request []byte
	answer  int // its length
	buffer  []byte
	timeout unix.Timeval
}

// ask sends the request and half-closes. It returns an error unless the answer
// has the right length.
func (c *bareClient) ask() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &c.timeout)
	if err != nil {
		return err
	}
	if err := unix.Connect(fd, c.addr); err != nil {
		return err
	}
	if _, err := unix.Write(fd, c.request); err != nil {
		return err
	}
	if err := unix.Shutdown(fd, unix.SHUT_WR); err != nil {
		return err
	}
	for got := 0; ; {
		n, err := unix.Read(fd, c.buffer)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return err
		case n == 0 && got != c.answer:
			return io.ErrUnexpectedEOF
		case n == 0:
			return nil
		}
		got += n
	}
}
