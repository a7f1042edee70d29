//go:build linux

package tour

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"lesson/internal/observe/proc"
	"lesson/internal/proof"
)

// While nothing happens, the kernel is asked less and less often; an act, and whatever a
// server does, ends that.
func TestTheKernelIsAskedLessOftenWhileNothingHappens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		s := &session{ctx: ctx, soon: make(chan struct{}, 1)}
		news := make(chan struct{}, 1)
		idle := looksEvery
		next := func() time.Duration {
			began := time.Now()
			if !s.nextLook(news, &idle) {
				t.Fatal("the session has ended")
			}
			return time.Since(began)
		}
		minute := 0
		for began := time.Now(); time.Since(began) < time.Minute; minute++ {
			next()
		}
		if minute > 60 {
			t.Errorf("asked %d times in an idle minute", minute)
		}
		news <- struct{}{}
		if took := next(); took > looksEvery {
			t.Errorf("asked %v after something has happened", took)
		}
		if took := next(); took > 2*looksEvery {
			t.Errorf("and once more after %v", took)
		}
		s.soon <- struct{}{}
		if took := next(); took > 0 {
			t.Errorf("asked %v after an act", took)
		}
		cancel()
		if s.nextLook(news, &idle) {
			t.Error("the session has not ended")
		}
	})
}

// The kernel is asked for the sockets that a page is known to have, one by one. It lists a
// port only when there are others.
func TestOnlyItsOwnSocketsAreAskedFor(t *testing.T) {
	t.Parallel()
	p := newRig(t, Options{}).open()
	server := p.add("loop")
	p.act("a", "connect", "")
	p.act("a", "send", half)
	p.awaitStanding(server, "read blocking/once.go")
	p.act("b", "connect", "")
	p.await("a and b are seen", func(events []anEvent) bool { return len(view(events, server).Conns) == 2 })
	s, err := p.tour.session(p.id)
	proof.Must(t, err)
	known := func() (int, bool) {
		s.looking.Lock()
		defer s.looking.Unlock()
		own, complete := s.shown()[0].ownSockets(s.seen[server], true)
		return len(own), complete
	}
	if n, complete := known(); n != 3 || !complete {
		t.Errorf("%d sockets, complete %v, want the listener, a and b", n, complete)
	}
	addr := p.awaitOne("its address", func(e anEvent) bool { return e.Addr != "" }).Addr
	outsider, err := net.Dial("tcp", addr)
	proof.Must(t, err)
	defer outsider.Close()
	p.await("another is seen in the accept queue", func(events []anEvent) bool {
		return len(view(events, server).Conns) == 3
	})
	if n, complete := known(); n != 4 || !complete {
		t.Errorf("%d sockets, complete %v, want the other as well", n, complete)
	}
}

// holdConnections is another program that has so many connections to itself, until its
// standard input ends.
func holdConnections(number string) {
	n, err := strconv.Atoi(number)
	l, failed := net.Listen("tcp", "127.0.0.1:0")
	for range n {
		if err != nil || failed != nil {
			fmt.Println("failed:", err, failed)
			os.Exit(1)
		}
		var near, far net.Conn
		near, err = net.Dial("tcp", l.Addr().String())
		if far, failed = l.Accept(); failed == nil {
			defer far.Close()
		}
		if err == nil {
			defer near.Close()
		}
	}
	fmt.Println("holds", n)
	_, _ = os.Stdin.Read(make([]byte, 1)) // the end, however it comes
}

// An idle page costs next to nothing, however many sockets other programs have.
func TestIdleIsIdle(t *testing.T) {
	proof.OnlyExhaustive(t, "an idle tour beside 18,000 sockets of another program: 15 s")
	limits, err := proc.ReadLimits()
	proof.Must(t, err)
	connections := min(9000, (limits.Descriptors-100)/2)
	others := exec.CommandContext(t.Context(), os.Args[0], "hold", strconv.Itoa(connections))
	input, err := others.StdinPipe()
	proof.Must(t, err)
	output, err := others.StdoutPipe()
	proof.Must(t, err)
	proof.Must(t, others.Start())
	defer func() {
		_ = input.Close() // which ends it
		_ = others.Wait() // however it has ended, it was not the one that is tested
	}()
	if said, err := bufio.NewReader(output).ReadString('\n'); said != fmt.Sprintln("holds", connections) {
		t.Fatalf("the other program: %q, %v", said, err)
	}
	p := newRig(t, Options{}).open()
	for _, name := range five {
		p.add(name)
	}
	const window, most = 10 * time.Second, 0.005
	for round := 0; ; round++ { // a machine that is busy with something else is not so in every round
		time.Sleep(4 * looksIdle) // what was started has come to rest
		before, err := proc.Ran(os.Getpid())
		proof.Must(t, err)
		time.Sleep(window)
		after, err := proc.Ran(os.Getpid())
		proof.Must(t, err)
		share := float64(after-before) / float64(window)
		t.Logf("%.2f %% of a processor beside %d sockets", 100*share, 2*connections)
		if share <= most {
			return
		}
		if round == 2 {
			t.Fatalf("%.2f %% of a processor, want at most %.1f", 100*share, 100*most)
		}
	}
}
