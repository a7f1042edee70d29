//go:build linux

package explore

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"lesson/internal/lesson"
	"lesson/internal/proof"
	"lesson/internal/server"
	"lesson/internal/words"
)

// of returns a lesson as a program.
func of(t *testing.T, name string) Program {
	t.Helper()
	l, err := lesson.Find(name)
	proof.Must(t, err)
	return func(k Kernel, _ func(func())) {
		s, err := l.Start(k, server.Options{Addr: address, Backlog: 4096})
		proof.Must(t, err)
		proof.Must(t, s.Serve())
	}
}

// spinning is a server that never sleeps.
func spinning(k Kernel, _ func(func())) {
	epfd, err := k.EpollCreate1(0)
	for events := make([]unix.EpollEvent, 1); err == nil; {
		_, err = k.EpollWait(epfd, events, 0)
	}
}

// What a reader does shows what the server does then, and the same each time.
func TestPerform(t *testing.T) {
	for _, test := range []struct {
		server, acts string
		shows        []string // steps, in this order; others may lie between
		waits        string
		states       string // of the clients
		ended        string
	}{
		{server: "loop", acts: "", shows: []string{"listen(3, 4096) = 0", "accept4(3) waits"},
			states: "not connected, not connected"},
		{server: "loop", acts: "ac-ah-bc-bw",
			shows: []string{"a sends half a request", "read(4, 1024 bytes) waits", "b sends a whole request"},
			waits: "b waits for its answer, and the server is blocked in read(4, 1024 bytes) since step 10: " +
				"the connection is in the accept queue",
			states: "has sent half a request, waits for its answer"},
		{server: "loop", acts: "ac-ah-bc-bw-ar-aq-t",
			shows: []string{"a sends the rest of its request", `a reads 114 bytes: "HTTP/1.0 200 OK"…`, "a reads end of file",
				"a closes", "accept4(3) = 4", "b reads end of file", "1 s pass", "read returns EAGAIN"},
			states: "gone, has the answer, and end of file"},
		{server: "epoll", acts: "abc", // level-triggered: reported again
			shows: []string{"a and b connect at the same moment", "epoll_wait returns 1 [3 IN]", "accept4(3) = 5",
				"epoll_wait(4, forever) = 1 [3 IN]", "accept4(3) = 6", "epoll_wait(4, forever) waits"},
			states: "connected, connected"},
		{server: "edgetriggered", acts: "abc",
			shows: []string{"epoll_wait returns 1 [3 IN]", "accept4(3) = 5", "accept4(3) = 6", "accept4(3) = EAGAIN",
				"epoll_wait(4, forever) waits"},
			states: "connected, connected"},
		{server: "epoll", acts: "ac-ae-ac", shows: []string{"a sends its FIN", "close(5) = 0", "a reads end of file",
			"a cannot do that now"}, states: "has end of file, and no answer, not connected"},
		{server: "epoll", acts: "ac-ah-ax-ac", shows: []string{"a resets", "read(5, 16384 bytes) = ECONNRESET", "a connects"},
			states: "connected, not connected"},
		{server: "epoll", acts: "ac-al", shows: []string{"a sends a request of 3,042 bytes", "read(5, 16384 bytes) = 3042 \"GET / HTTP/1.0\\r\\nX: x\""},
			states: "has the answer, and end of file, not connected"},
		{server: "blocking", acts: "ac-aw-aq-bc-m",
			shows:  []string{"close(3) = 0", "b connects", "60 s pass"},
			states: "gone, refused: nothing listens", ended: "the server has ended by itself"},
	} {
		t.Run(test.server+" "+test.acts, func(t *testing.T) {
			p, err := Perform(of(t, test.server), test.acts)
			proof.Must(t, err)
			next := 0
			for _, step := range p.Steps {
				if next < len(test.shows) && step.Text == test.shows[next] {
					next++
				}
			}
			if next < len(test.shows) {
				t.Errorf("no step %q after those before it", test.shows[next])
			}
			if got := strings.Join(texts(p.Waits), "; "); got != test.waits {
				t.Errorf("waits: %q, want %q", got, test.waits)
			}
			if got := p.Clients[0].State.Text + ", " + p.Clients[1].State.Text; got != test.states {
				t.Errorf("clients: %q, want %q", got, test.states)
			}
			if p.Ended.Text != test.ended {
				t.Errorf("ended: %q, want %q", p.Ended, test.ended)
			}
			if t.Failed() {
				for _, step := range p.Steps {
					t.Log(step.Number, step.Text)
				}
			}
			again, err := Perform(of(t, test.server), test.acts)
			proof.Must(t, err)
			if !reflect.DeepEqual(p, again) {
				t.Error("the same acts gave something else")
			}
			acts := strings.Count(test.acts, "-") + 1
			for i, number := range p.Acted {
				before := strings.Join(strings.Split(test.acts, "-")[:i], "-")
				earlier, err := Perform(of(t, test.server), before)
				proof.Must(t, err)
				if n := len(earlier.Steps); n >= number {
					t.Errorf("act %d of %d is step %d, and the acts before it take %d steps", i+1, acts, number, n)
				}
			}
		})
	}
}

// A call that returns later names the step in which it began.
func TestReturnsNameTheirCall(t *testing.T) {
	p, err := Perform(of(t, "loop"), "ac-ah")
	proof.Must(t, err)
	var returns []string
	for _, step := range p.Steps {
		if step.Began > 0 {
			returns = append(returns, fmt.Sprintf("%s: %s", p.Steps[step.Began-1].Text, step.Text))
		}
	}
	want := []string{"accept4(3) waits: accept4 returns 4", `read(4, 1024 bytes) waits: read returns 9 "GET / HTT"`}
	if !reflect.DeepEqual(returns, want) {
		t.Errorf("%q, want %q", returns, want)
	}
}

// A server that never sleeps ends the performance.
func TestPerformOfASpinningServer(t *testing.T) {
	p, err := Perform(spinning, "")
	proof.Must(t, err)
	if !strings.HasSuffix(p.Ended.Text, "the server spins") || len(p.Clients) != 0 {
		t.Errorf("ended: %q, clients %v", p.Ended, p.Clients)
	}
}

func TestPerformRefuses(t *testing.T) {
	for acts, want := range map[string]string{
		"a":     `"a" is no act`,
		"ac-":   `"" is no act`,
		"ec":    `"ec" is no act`,
		"ac-az": `"az" is no act`,
		strings.Repeat("abcdc-abcdw-abcdq-", 14) + "t": "a story has at most 400 steps: begin again",
		strings.Repeat("t-", 60) + "t":                 "61 acts; at most 60 are performed: begin again",
	} {
		if _, err := Perform(of(t, "epoll"), acts); err == nil || err.Error() != want {
			t.Errorf("%.10s: %v, want %s", acts, err, want)
		}
	}
}

func texts(all []words.Sentence) []string {
	var texts []string
	for _, s := range all {
		texts = append(texts, s.Text)
	}
	return texts
}
