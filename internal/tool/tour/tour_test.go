//go:build linux

package tour

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"lesson/internal/book"
	"lesson/internal/lesson"
	"lesson/internal/observe/sockets"
	"lesson/internal/observe/trace"
	"lesson/internal/play"
	"lesson/internal/proof"
	"lesson/internal/protocol"
)

var five = names(lesson.Steps())

func names(lessons []lesson.Lesson) (names []string) {
	for _, l := range lessons {
		names = append(names, l.Name)
	}
	return names
}

func TestBookTellsWhatThereIs(t *testing.T) {
	t.Parallel()
	r := newRig(t, Options{})
	var b contents
	r.must("GET", "/api/book", nil, &b)
	if len(b.Chapters) == 0 || len(b.Lessons) != len(lesson.All()) || len(b.Exercises) < 20 || len(b.Scenarios) == 0 {
		t.Errorf("%d chapters, %d lessons, %d exercises, %d scenarios",
			len(b.Chapters), len(b.Lessons), len(b.Exercises), len(b.Scenarios))
	}
	if !slices.Equal(b.Columns, five) {
		t.Errorf("it begins with %q", b.Columns)
	}
	for i, name := range b.Columns {
		if l, err := lesson.Find(name); err != nil || l.Step != i+1 {
			t.Errorf("column %d is %s, of step %d: %v", i+1, name, l.Step, err)
		}
	}
	ids := map[string]bool{}
	for _, c := range b.Chapters {
		ids[c.ID] = true
		var chapter struct{ HTML string }
		r.must("GET", "/api/chapter/"+c.ID, nil, &chapter)
		if chapter.HTML == "" {
			t.Errorf("%s is empty", c.ID)
		}
	}
	for _, l := range b.Lessons {
		if !ids[l.Chapter] {
			t.Errorf("%s: no chapter %q", l.Name, l.Chapter)
		}
		for _, file := range l.Files {
			var s source
			r.must("GET", "/api/source?file="+file, nil, &s)
			if s.File != file || len(s.Lines) < 10 {
				t.Errorf("%s: %q, %d lines", file, s.File, len(s.Lines))
			}
		}
	}
}

func TestOnlyItsOwnPagesMayAsk(t *testing.T) {
	t.Parallel()
	r := newRig(t, Options{})
	port := r.url[strings.LastIndex(r.url, ":"):]
	header := func(name, value string) func(*http.Request) {
		return func(request *http.Request) { request.Header.Set(name, value) }
	}
	host := func(h string) func(*http.Request) {
		return func(request *http.Request) { request.Host = h }
	}
	for _, c := range []struct {
		what   string
		path   string
		change func(*http.Request)
		want   int
	}{
		{"as the page asks", "/api/book", func(*http.Request) {}, 200},
		{"by the name of this machine", "/api/book", host("localhost" + port), 200},
		{"in IPv6", "/api/book", host("[::1]" + port), 200},
		{"by another name", "/api/book", host("attacker.example" + port), 403},
		{"the page by another name", "/", host("attacker.example" + port), 403},
		{"by a name that begins alike", "/api/book", host("localhost.attacker.example" + port), 403},
		{"at another port", "/api/book", host("localhost:1"), 403},
		{"without a port", "/api/book", host("localhost"), 403},
		{"from another site", "/api/book", header("Origin", "http://attacker.example"), 403},
		{"from another port of this machine", "/api/book", header("Origin", "http://127.0.0.1:1"), 403},
		{"from a file", "/api/book", header("Origin", "null"), 403},
		{"from the page", "/api/book", header("Origin", r.url), 200},
		{"across sites", "/api/book", header("Sec-Fetch-Site", "cross-site"), 403},
		{"without the header", "/api/book", header(ourHeader, ""), 403},
		{"the page, without the header", "/", header(ourHeader, ""), 200},
		{"a link on another site", "/", header("Sec-Fetch-Site", "cross-site"), 200},
	} {
		if status, answer := r.ask("GET", c.path, nil, c.change); status != c.want {
			t.Errorf("%s: %d %s, want %d", c.what, status, answer, c.want)
		}
	}
	for _, path := range []string{"", "/x/end", "/x/acts", "/x/servers", "/x/scenario"} {
		status, _ := r.ask("POST", "/api/sessions"+path, nothing{}, header(ourHeader, ""))
		if status != http.StatusForbidden {
			t.Errorf("a form posts to %q: %d", path, status)
		}
	}
}

// The tour listens where it was asked to, and not on more addresses.
func TestItListensWhereItWasAskedTo(t *testing.T) {
	t.Parallel()
	for _, host := range []string{"127.0.0.1", "0.0.0.0", "[::]"} {
		l, err := Listen(host + ":0")
		proof.Must(t, err)
		if got := l.Addr().String(); !strings.HasPrefix(got, host+":") {
			t.Errorf("asked for %s, it listens on %s", host, got)
		}
		proof.Must(t, l.Close())
	}
}

func TestEveryAnswerIsFencedIn(t *testing.T) {
	t.Parallel()
	r := newRig(t, Options{})
	for _, path := range []string{"/", "/assets/none", "/api/book", "/nowhere"} {
		request, err := http.NewRequest("GET", r.url+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := r.http.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		for name, want := range map[string]string{
			"Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; ",
			"X-Content-Type-Options":  "nosniff",
			"Referrer-Policy":         "no-referrer",
		} {
			if !strings.HasPrefix(response.Header.Get(name), want) {
				t.Errorf("%s: %s is %q", path, name, response.Header.Get(name))
			}
		}
	}
}

func TestAssetsAreThoseOfThePage(t *testing.T) {
	t.Parallel()
	r := newRig(t, Options{})
	err := fs.WalkDir(page(), ".", func(name string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			if status, _ := r.ask("GET", "/assets/"+name, nil); status != http.StatusOK {
				t.Errorf("%s: %d", name, status)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/assets/", "/assets/../tour.go", "/assets/..%2ftour.go"} {
		if status, _ := r.ask("GET", path, nil); status == http.StatusOK {
			t.Errorf("%s is served", path)
		}
	}
}

func TestHalfARequestShowsWhereEachStands(t *testing.T) {
	t.Parallel()
	p := newRig(t, Options{}).open()
	want := map[string][]string{}
	for _, l := range lesson.All() {
		file := l.Files[len(l.Files)-1] // that of one client
		switch {
		case l.Waits != "":
			want[l.Name] = []string{l.Waits + " " + file}
		case l.Model == lesson.Threaded:
			want[l.Name] = []string{"accept4 " + file, "read " + file}
		default:
			want[l.Name] = []string{"read " + file}
		}
	}
	servers := map[string]string{}
	for _, name := range five {
		servers[name] = p.add(name)
	}
	for name, server := range servers {
		if first := want[name][0]; strings.HasPrefix(first, "read") {
			first = "accept4 blocking/once.go"
			p.awaitStanding(server, first)
		}
	}
	p.act("a", "connect", "")
	p.act("a", "send", half)
	for name, server := range servers {
		p.awaitState(server, "a", "waiting")
		p.awaitStanding(server, want[name]...)
	}
	p.act("a", "send", rest)
	for name, server := range servers {
		if got := p.awaitState(server, "a", "answered"); got.Got != string(protocol.Response) {
			t.Errorf("%s answered %q", name, got.Got)
		}
	}
}

func TestTheSecondClientWaitsInLoopAndNotInEpoll(t *testing.T) {
	t.Parallel()
	p := newRig(t, Options{}).open()
	loop, epoll := p.add("loop"), p.add("epoll")
	p.act("a", "connect", "")
	p.act("a", "send", half)
	p.awaitStanding(loop, "read blocking/once.go")
	p.act("b", "connect", "")
	p.act("b", "send", half+rest)
	p.awaitState(epoll, "b", "answered")
	p.await("b waits in loop's accept queue, with its bytes", func(events []anEvent) bool {
		v := view(events, loop)
		i := slices.IndexFunc(v.Conns, func(c connection) bool { return c.Client == "b" })
		return i >= 0 && !v.Conns[i].Accepted && v.Conns[i].FD == -1 &&
			v.Conns[i].Unread == uint32(len(half+rest)) && v.Listener.Queue == 1
	})
	if s := state(p.all(), loop, "b").State; s != "waiting" {
		t.Errorf("b is %s in loop", s)
	}
	p.act("a", "close", "")
	p.awaitState(loop, "b", "answered")
}

func TestTheKernelsSideIsShown(t *testing.T) {
	t.Parallel()
	p := newRig(t, Options{}).open()
	for name, events := range map[string]string{
		"epoll": "EPOLLIN", "edgetriggered": "EPOLLIN|EPOLLET",
		"netpoll": "EPOLLIN|EPOLLOUT|EPOLLRDHUP|EPOLLET",
	} {
		server := p.add(name)
		p.act("a", "connect", "")
		p.await(name+"'s interest list has the listener and a", func(all []anEvent) bool {
			v := view(all, server)
			return len(v.Interest) == 2 && len(v.Conns) == 1 && v.Conns[0].FD >= 0 &&
				slices.ContainsFunc(v.Interest, func(i interest) bool {
					return i.Client == "a" && i.What == "connection" && i.FD == v.Conns[0].FD &&
						i.Events == events
				})
		})
		p.act("a", "close", "")
		p.must("POST", p.base+"/servers", map[string]string{"remove": server}, nil)
	}
}

func TestACallerFromOutsideIsSeen(t *testing.T) {
	t.Parallel()
	p := newRig(t, Options{}).open()
	server := p.add("loop")
	addr := p.awaitOne("its address", func(e anEvent) bool { return e.Addr != "" }).Addr
	outsider, err := play.Dial(netip.MustParseAddrPort(addr))
	if err != nil {
		t.Fatal(err)
	}
	defer outsider.Close()
	if err := outsider.Send([]byte(half)); err != nil {
		t.Fatal(err)
	}
	peer := outsider.LocalAddr()
	p.await("the outsider's call and connection", func(events []anEvent) bool {
		v := view(events, server)
		return slices.ContainsFunc(events, func(e anEvent) bool {
			return e.Type == "call" && e.Event.Name == "read" && e.Event.Peer == peer
		}) && len(v.Conns) == 1 && v.Conns[0].Peer == peer.String() && v.Conns[0].Client == "out1"
	})
}

func TestStepOneEndsAndIsStartedAgain(t *testing.T) {
	t.Parallel()
	p := newRig(t, Options{}).open()
	server := p.add("blocking")
	ends := func(n int) {
		t.Helper()
		p.await(fmt.Sprintf("it ends %d times", n), func(events []anEvent) bool {
			count := 0
			for _, e := range events {
				if e.Type == "server" && e.State == ended {
					count++
				}
			}
			return count == n
		})
	}
	for n := range 2 {
		p.act("a", "connect", "")
		p.act("a", "send", half+rest)
		p.awaitState(server, "a", "answered")
		p.act("a", "close", "")
		ends(n + 1)
		p.connectsInVain(server, "b")
		p.must("POST", p.base+"/servers", map[string]string{"again": server}, nil)
	}
	p.await("it has listened three times", func(events []anEvent) bool {
		count := 0
		for _, e := range events {
			if e.Type == "server" && e.State == listening {
				count++
			}
		}
		return count == 3
	})
}

// connectsInVain lets a client connect until it is refused. A program that another test is
// just starting has a listener of this process for a moment longer.
func (p *aPage) connectsInVain(server, client string) {
	p.t.Helper()
	proof.Eventually(p.t, client+" to be refused", func() bool {
		before := len(p.all())
		p.act(client, play.Connect, "")
		last := ""
		p.await(client+" to be connected, or not", func(events []anEvent) bool {
			last = state(events[before:], server, client).State
			return last != "" && last != "connecting"
		})
		if last != "refused" {
			p.act(client, play.Reset, "")
		}
		return last == "refused"
	})
}

func TestWhatAClientCanDo(t *testing.T) {
	t.Parallel()
	p := newRig(t, Options{}).open()
	server := p.add("epoll")
	p.act("half", "connect", "")
	p.act("half", "send", half+rest)
	p.act("half", "half-close", "")
	p.awaitState(server, "half", "answered")
	p.act("gone", "connect", "")
	p.act("gone", "reset", "")
	p.awaitState(server, "gone", "closed")
	p.awaitOne("read fails with ECONNRESET", func(e anEvent) bool {
		return e.Type == "call" && e.Event.Err == "ECONNRESET"
	})
	p.act("big", "connect", "")
	p.act("big", "send", play.Bytes(strings.Repeat("x", protocol.MaxRequest+1)))
	if got := p.awaitState(server, "big", "answered").Got; !strings.HasPrefix(got, "HTTP/1.0 431") {
		t.Errorf("a request that is too large is answered %q", got)
	}
	p.must("POST", p.base+"/acts", play.Act{Client: "slow", Do: play.Connect}, nil)
	p.act("slow", "send", half+rest)
	p.awaitOne("the slow one is served", func(e anEvent) bool {
		return e.Type == "call" && e.Event.Left && e.Event.Name == "send" &&
			e.Event.Peer.String() == state(p.all(), server, "slow").Peer
	})
	if got := state(p.all(), server, "slow").Got; got != "" {
		t.Errorf("the slow one has read %q", got)
	}
	p.act("slow", "read", "")
	p.awaitState(server, "slow", "answered")
	p.act("slow", "connect", "") // once more, when the server has closed or not
}

func TestWhatIsWrongIsRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t, Options{})
	p := r.open()
	for _, c := range []struct {
		path string
		body any
		want int
	}{
		{"/acts", play.Act{Client: "a", Do: "dance"}, 400},
		{"/acts", play.Act{Client: "", Do: "connect"}, 400},
		{"/acts", play.Act{Client: "<b>", Do: "connect"}, 400},
		{"/acts", play.Act{Client: "out1", Do: "connect"}, 400},
		{"/acts", play.Act{Client: "a", Do: "send", Bytes: "x"}, 400},
		{"/acts", play.Act{Client: "a", Do: "connect", Bytes: play.Bytes(strings.Repeat("x", maxBytes+1))}, 400},
		{"/acts", strings.Repeat("x", maxBody), 400},
		{"/acts", []int{1}, 400},
		{"/servers", map[string]string{"add": "none"}, 404},
		{"/servers", map[string]string{"add": "exercise/none"}, 404},
		{"/servers", map[string]string{"add": "exercise/../../x"}, 404},
		{"/servers", map[string]string{"add": "program"}, 404},
		{"/servers", map[string]string{"remove": "s9"}, 404},
		{"/servers", map[string]string{"again": "s9"}, 404},
		{"/servers", nothing{}, 400},
		{"/scenario", map[string]string{"name": "none"}, 404},
		{"/scenario", map[string]bool{"step": true}, 400},
		{"/scenario", map[string]any{"name": "one-waits", "speed": -1}, 400},
	} {
		status, answer := r.ask("POST", p.base+c.path, c.body)
		if status != c.want || !strings.Contains(answer, `"error"`) {
			t.Errorf("%s %.80v: %d %s, want %d", c.path, c.body, status, answer, c.want)
		}
	}
	for _, path := range []string{"/api/sessions/none/recording", "/api/sessions/none/events",
		"/api/chapter/none", "/api/source?file=../../etc/passwd", "/api/source"} {
		if status, _ := r.ask("GET", path, nil); status != http.StatusNotFound {
			t.Errorf("%s: %d", path, status)
		}
	}
}

func TestBounds(t *testing.T) {
	t.Parallel()
	r := newRig(t, Options{})
	r.tour.most = 2
	p := r.open()
	for range maxColumns {
		p.add("epoll")
	}
	if status, _ := r.ask("POST", p.base+"/servers", map[string]string{"add": "epoll"}); status != 429 {
		t.Errorf("one column too many: %d", status)
	}
	q := r.open()
	q.add("loop")
	for i := range maxClients {
		q.act(fmt.Sprint("c", i), "connect", "")
	}
	if status, _ := r.ask("POST", q.base+"/acts", play.Act{Client: "more", Do: "connect"}); status != 429 {
		t.Errorf("one client too many: %d", status)
	}
	if status, _ := r.ask("POST", "/api/sessions", nothing{}); status != 429 {
		t.Errorf("one session too many: %d", status)
	}
	r.must("DELETE", p.base, nil, nil)
	proof.Eventually(t, "there is room for a session again", func() bool {
		status, _ := r.ask("POST", "/api/sessions", nothing{})
		return status == http.StatusOK
	})
}

// Go ends a program with more than 10,000 threads, so all servers of all sessions share
// what they may use.
func TestThreadsAreShared(t *testing.T) {
	t.Parallel()
	const ofGo = 10000
	most := mostThreads + maxSessions*(maxColumns+maxStreams) + mostConnections
	if most > ofGo/2 {
		t.Errorf("the tour may need %d threads", most)
	}
	r := newRig(t, Options{})
	threaded, err := lesson.Find("threaded")
	proof.Must(t, err)
	r.tour.threads.left = 2*threadsOf(threaded) + 1
	one, two := r.open(), r.open()
	first := one.add("threaded")
	two.add("threaded")
	status, answer := r.ask("POST", two.base+"/servers", map[string]string{"add": "threaded"})
	if status != http.StatusUnprocessableEntity || !strings.Contains(answer, "threads already") {
		t.Errorf("one too many: %d %s", status, answer)
	}
	two.add("epoll") // which needs one
	one.must("POST", one.base+"/servers", map[string]string{"remove": first}, nil)
	two.add("threaded")
}

// Event streams are bounded for each session, and a connection without a whole request
// keeps no other from being served.
func TestStreamsAndSlowRequestsKeepNoPageOut(t *testing.T) {
	t.Parallel()
	r := newRig(t, Options{})
	p := r.open()
	for range maxStreams - 1 {
		p.follow("")
	}
	if status, _ := r.ask("GET", p.base+"/events", nil); status != http.StatusTooManyRequests {
		t.Errorf("one stream too many: %d", status)
	}
	host := strings.TrimPrefix(r.url, "http://")
	for i := range mostConnections + 10 {
		c, err := net.Dial("tcp", host)
		proof.Must(t, err)
		defer c.Close()
		if i%2 == 0 { // the others send nothing
			_, err = fmt.Fprintf(c, "POST %s/acts HTTP/1.1\r\nHost: %s\r\n%s: 1\r\nContent-Length: 9\r\n\r\n{",
				p.base, host, ourHeader)
			proof.Must(t, err)
		}
	}
	fresh := &http.Client{Transport: &http.Transport{}, Timeout: 3 * time.Second}
	defer fresh.CloseIdleConnections()
	response, err := fresh.Get(r.url + "/")
	proof.Must(t, err)
	proof.Must(t, response.Body.Close())
	r.http.CloseIdleConnections() // the gate may have closed them
	p.add("epoll")                // its events come: the streams have kept their places
}

func TestAServerHasSoManyDescriptors(t *testing.T) {
	t.Parallel()
	p := newRig(t, Options{}).open()
	p.add("epoll")
	addr := p.awaitOne("its address", func(e anEvent) bool { return e.Addr != "" }).Addr
	for range maxOutsiders + maxClients + 1 {
		c, err := play.Dial(netip.MustParseAddrPort(addr))
		proof.Must(t, err)
		defer c.Close()
	}
	p.awaitOne("accept4 fails with EMFILE", func(e anEvent) bool {
		return e.Type == "call" && e.Event.Name == "accept4" && e.Event.Err == "EMFILE"
	})
}

func TestSessionsDoNotDisturbEachOther(t *testing.T) {
	t.Parallel()
	r := newRig(t, Options{})
	one, two := r.open(), r.open()
	a, b := one.add("loop"), two.add("loop")
	one.act("a", "connect", "")
	one.act("a", "send", half)
	one.awaitStanding(a, "read blocking/once.go")
	two.act("a", "connect", "")
	two.act("a", "send", half+rest)
	two.awaitState(b, "a", "answered")
	r.must("POST", two.base+"/end", nothing{}, nil)
	<-two.left
	one.act("a", "send", rest)
	one.awaitState(a, "a", "answered")
}

// It counts the goroutines of the process, so it runs alone.
func TestASessionEndsWithItsPage(t *testing.T) {
	for _, how := range []string{"its stream goes", "it says so"} {
		t.Run(how, func(t *testing.T) {
			r := newRig(t, Options{})
			r.must("GET", "/api/book", nil, nil)
			r.http.CloseIdleConnections()
			goroutines, descriptors := settled(t)
			p := r.open()
			for _, name := range append(slices.Clone(five), "netpoll") {
				p.add(name)
			}
			for _, c := range []string{"a", "b", "c"} {
				p.act(c, "connect", "")
				p.act(c, "send", half)
			}
			p.must("POST", p.base+"/scenario", scenarioOrder{Name: "one-waits", Paused: true}, nil)
			p.act("z", "connect", "")
			if how == "it says so" {
				r.must("POST", p.base+"/end", nothing{}, nil)
			} else {
				s, err := r.tour.session(p.id)
				proof.Must(t, err)
				s.mu.Lock()
				r.tour.options.Linger = 10 * time.Millisecond
				s.mu.Unlock()
				p.leave()
			}
			<-p.left
			r.http.CloseIdleConnections()
			proof.Eventually(t, "the session is gone", func() bool {
				r.tour.mu.Lock()
				defer r.tour.mu.Unlock()
				return len(r.tour.sessions) == 0
			})
			if status, _ := r.ask("GET", p.base+"/recording", nil); status != http.StatusNotFound {
				t.Errorf("its recording: status %d", status)
			}
			r.http.CloseIdleConnections()
			proof.Eventually(t, "nothing is left of it", func() bool {
				g, d := runtime.NumGoroutine(), openDescriptors(t)
				return g <= goroutines && d <= descriptors
			})
		})
	}
}

// settled is how many goroutines and descriptors there are, when that has not changed
// for a while.
func settled(t *testing.T) (goroutines, descriptors int) {
	t.Helper()
	same := 0
	proof.Eventually(t, "the process comes to rest", func() bool {
		g, d := runtime.NumGoroutine(), openDescriptors(t)
		if g == goroutines && d == descriptors {
			same++
		} else {
			same = 0
		}
		goroutines, descriptors = g, d
		return same >= 50
	})
	return goroutines, descriptors
}

func openDescriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func TestAStreamIsTakenUpWhereItBrokeOff(t *testing.T) {
	t.Parallel()
	p := newRig(t, Options{}).open()
	p.add("epoll")
	p.act("a", "connect", "")
	p.leave()
	<-p.left
	p.mu.Lock()
	last := p.ids[len(p.ids)-1]
	before := len(p.events)
	p.mu.Unlock()
	p.act("b", "connect", "")
	p.follow(last)
	p.awaitOne("b's act", func(e anEvent) bool { return e.Type == "act" && e.Act.Client == "b" })
	seen := map[int64]bool{}
	for i, e := range p.all() {
		if e.Type == "now" {
			continue
		}
		if seen[e.Seq] {
			t.Errorf("event %d came twice (%s, at %d of %d)", e.Seq, e.Type, i, before)
		}
		seen[e.Seq] = true
	}
	for seq := range int64(len(seen)) {
		if !seen[seq+1] {
			t.Errorf("event %d never came", seq+1)
		}
	}
}

// load makes clients outside call the server, until the function that it returns is
// called; that says how many were answered.
func load(t *testing.T, addr string) (stop func() int) {
	t.Helper()
	quit := make(chan struct{})
	var mu sync.Mutex
	answered := 0
	var callers sync.WaitGroup
	for range 4 {
		callers.Go(func() {
			for {
				select {
				case <-quit:
					return
				default:
				}
				c, err := play.Dial(netip.MustParseAddrPort(addr))
				if err != nil {
					t.Errorf("dial: %v", err)
					return
				}
				err = c.Send([]byte(half + rest))
				answer, failed := c.ReadAll(play.Patience)
				c.Close()
				if err != nil || failed != nil || string(answer) != string(protocol.Response) {
					t.Errorf("answered %q: %v, %v", answer, err, failed)
					return
				}
				mu.Lock()
				answered++
				mu.Unlock()
			}
		})
	}
	ended := sync.OnceFunc(func() {
		close(quit)
		callers.Wait()
	})
	t.Cleanup(ended) // also when the test has failed meanwhile
	return func() int {
		ended()
		return answered
	}
}

func TestASlowPageMissesCallsAndHoldsUpNobody(t *testing.T) {
	t.Parallel()
	p := newRig(t, Options{}).open()
	server := p.add("epoll")
	addr := p.awaitOne("its address", func(e anEvent) bool { return e.Addr != "" }).Addr
	s, err := p.tour.session(p.id)
	if err != nil {
		t.Fatal(err)
	}
	// A second page that has read nothing yet, and does not read.
	slow := s.journal.newReader(s.journal.newest())
	defer slow.close()
	before := slow.calls[server].had
	stop := load(t, addr)
	proof.Eventually(t, "more calls than are kept", func() bool { return s.journal.made(server) > before+3*keptCalls })
	if n := stop(); n == 0 {
		t.Error("no client was answered")
	}
	proof.Eventually(t, "all clients are gone, and it waits forever", func() bool {
		var open []trace.Event
		s.journal.look(server, func(state *trace.State) { open = state.Open() })
		return len(open) == 1 && strings.HasSuffix(open[0].Args, "forever")
	})
	made := s.journal.made(server)
	got, missed := int64(0), int64(0)
	for _, e := range slow.next() {
		switch e := e.(type) {
		case *callEvent:
			got++
		case *missedEvent:
			missed += e.Calls
			if len(e.Open) != 1 || e.Open[0].Name != "epoll_wait" {
				t.Errorf("it is blocked in %v", e.Open)
			}
		}
	}
	if got == 0 || got > callsAtOnce || got+missed != made-before {
		t.Errorf("%d calls came and %d were missed, of %d", got, missed, made-before)
	}
	if !proof.Detector { // with it, the server is not faster than the page
		p.awaitOne("the page that reads learns it, too", func(e anEvent) bool { return e.Type == "missed" })
	}
}

// It measures the memory of the process, so it runs alone.
func TestMemoryStaysFlatUnderLoad(t *testing.T) {
	j := newJournal()
	j.begins("s1")
	fill := func(n int) {
		for i := range n {
			e := trace.Event{Call: int64(i), Name: "read", Args: "7, 1024 bytes", Left: i%2 == 1}
			e.Call = int64(i / 2)
			j.call("s1", e)
			j.tell("kernel/s1", "kernel", &kernelEvent{Server: "s1", Conns: make([]connection, 8)})
		}
	}
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	fill(2 * keptCalls)
	before := heap()
	fill(20 * keptCalls)
	proof.Eventually(t, "no more than before, and a mebibyte", func() bool { return heap() <= before+1<<20 })
	runtime.KeepAlive(j)
}

// What a session keeps is bounded whatever is sent to it, also while no page reads, and
// goes with the session. It measures the memory of the process, so it runs alone.
func TestASessionsMemoryIsBoundedAndReturns(t *testing.T) {
	acts := 120
	if proof.Exhaustive() {
		acts = 4100
	}
	r := newRig(t, Options{Linger: 5 * time.Minute}) // no page holds the session open
	r.must("GET", "/api/book", nil, nil)
	heap := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := heap()
	var began struct{ ID string }
	r.must("POST", "/api/sessions", nothing{}, &began)
	base := "/api/sessions/" + began.ID
	r.must("POST", base+"/acts", play.Act{Client: "a", Do: play.Connect}, nil)
	long := play.Act{Client: "a", Do: play.Send, Bytes: play.Bytes(strings.Repeat("\x01", maxBytes))}
	for range acts {
		r.must("POST", base+"/acts", long, nil)
	}
	host := strings.TrimPrefix(r.url, "http://")
	unread := []string{"/recording"}
	for range maxStreams {
		unread = append(unread, "/events")
	}
	for _, path := range unread {
		c, err := net.Dial("tcp", host)
		proof.Must(t, err)
		defer c.Close()
		proof.Must(t, c.(*net.TCPConn).SetReadBuffer(4096))
		_, err = fmt.Fprintf(c, "GET %s%s HTTP/1.1\r\nHost: %s\r\n%s: 1\r\n\r\n", base, path, host, ourHeader)
		proof.Must(t, err)
		mine := netip.MustParseAddrPort(c.LocalAddr().String())
		proof.Eventually(t, path+" to be answered with more than is read", func() bool {
			s, err := sockets.Connection(netip.MustParseAddrPort(host), mine)
			return err == nil && s.Unsent > 0
		})
	}
	const most = 4 << 20
	grown := int64(0)
	proof.Eventually(t, "at most 4 MiB more", func() bool { // beside what is just being allocated
		grown = heap() - before
		return grown <= most
	})
	t.Logf("%d bytes more with %d acts and %d pages that do not read", grown, acts, len(unread))
	r.must("DELETE", base, nil, nil)
	const left = 1 << 20
	proof.Eventually(t, "the memory to return", func() bool { return heap()-before < left })
}

func TestTheTextThatIsKeptIsBounded(t *testing.T) {
	t.Parallel()
	j := newJournal()
	const acts = 5000
	for i := range acts {
		j.tell("", "act", &actEvent{Act: play.Act{Bytes: play.Bytes(make([]byte, maxBytes))}})
		j.tell("client/s1/a", "client", &clientEvent{Sent: int64(i), Got: "an answer"})
	}
	slow := j.newReader(1)
	defer slow.close()
	news := slow.next()
	text := 0
	for _, e := range news {
		text += bytesIn(e)
	}
	if text > keptBytes || text < keptBytes-2*maxBytes {
		t.Errorf("%d bytes are kept in %d events", text, len(news))
	}
	if last := news[len(news)-1]; last.head().Seq != 2*acts {
		t.Errorf("the last event is %d of %d", last.head().Seq, 2*acts)
	}
	for range keptNews { // without a text, all that fit are kept
		j.tell("", "now", &nowEvent{})
	}
	if news := j.all(); len(news) != keptNews+1 || j.bytes != 0 { // and the state of a
		t.Errorf("%d events and %d bytes are kept", len(news), j.bytes)
	}
}

func TestAScenarioPlaysActByAct(t *testing.T) {
	t.Parallel()
	p := newRig(t, Options{}).open()
	loop, epoll := p.add("loop"), p.add("epoll")
	p.act("z", "connect", "")
	p.must("POST", p.base+"/scenario", scenarioOrder{Name: "one-waits", Paused: true}, nil)
	at := func(state play.State, next int) {
		t.Helper()
		p.awaitOne(fmt.Sprintf("%s before act %d", state, next), func(e anEvent) bool {
			return e.Type == "scenario" && e.State == string(state) && e.Next == next
		})
	}
	at(play.Paused, 0)
	p.awaitState(epoll, "z", "closed") // a fresh start
	for i := range 4 {
		p.must("POST", p.base+"/scenario", scenarioOrder{Step: true}, nil)
		at(play.Paused, i+1)
	}
	p.awaitState(epoll, "b", "answered")
	p.awaitStanding(loop, "read blocking/once.go")
	on := false
	p.must("POST", p.base+"/scenario", scenarioOrder{Pause: &on}, nil)
	at(play.Playing, 4)
	p.must("POST", p.base+"/scenario", scenarioOrder{Stop: true}, nil)
	p.awaitOne("it is stopped", func(e anEvent) bool { return e.Type == "scenario" && e.State == string(play.Stopped) })

	p.must("POST", p.base+"/scenario", scenarioOrder{Name: "one-waits", Speed: 20}, nil)
	at(play.Ended, 7)
	acts := 0
	for _, e := range p.all() {
		if e.Type == "act" {
			acts++
		}
	}
	if acts != 1+4+7 {
		t.Errorf("%d acts", acts)
	}
}

func TestARecordingHoldsWhatHappened(t *testing.T) {
	t.Parallel()
	p := newRig(t, Options{}).open()
	server := p.add("epoll")
	p.act("a", "connect", "")
	p.act("a", "send", half+rest)
	p.awaitState(server, "a", "answered")
	var got struct {
		Version int
		Machine struct{ Kernel string }
		Servers []serverEvent
		Sources map[string]string
		Log     []anEvent
	}
	p.must("GET", p.base+"/recording", nil, &got)
	if got.Version != recordingVersion || got.Machine.Kernel == "" || len(got.Servers) != 1 {
		t.Errorf("version %d, machine %+v, servers %+v", got.Version, got.Machine, got.Servers)
	}
	if !strings.HasPrefix(got.Sources["epoll/eventloop.go"], "//go:build linux\n") {
		t.Errorf("sources: %d files", len(got.Sources))
	}
	if !slices.IsSortedFunc(got.Log, func(a, b anEvent) int { return int(a.Seq - b.Seq) }) {
		t.Error("not in order")
	}
	if s := state(got.Log, server, "a").State; s != "answered" {
		t.Errorf("in the recording, a is %q", s)
	}
	for _, e := range p.all() { // what a page has seen is in it
		if e.Type == "now" {
			continue
		}
		if !slices.ContainsFunc(got.Log, func(o anEvent) bool { return o.Seq == e.Seq }) &&
			e.Seq <= got.Log[len(got.Log)-1].Seq {
			t.Errorf("event %d, %s, is missing", e.Seq, e.Type)
		}
	}
}

// A Site is an export, and the names of the recordings that were reported.
type Site struct {
	Dir      string
	Recorded []string
}

// exportedFast returns an export of two servers with fast recordings, made once: a
// recording should last as long as it says, but a test need not.
var exportedFast = sync.OnceValues(func() (site Site, err error) {
	tour, err := New(Options{Columns: []string{"loop", "edgetriggered"}})
	if err != nil {
		return site, err
	}
	tour.speed = 20
	if site.Dir, err = TempDir("lesson-site-"); err != nil {
		return site, err
	}
	err = tour.Export(context.Background(), site.Dir, false,
		func(name string) { site.Recorded = append(site.Recorded, name) })
	return site, errors.Join(err, tour.Close())
})

// An export replaces the files of an earlier one, and no others.
func TestAnExportOverwritesOnlyItsOwn(t *testing.T) {
	if proof.Detector {
		t.Skip("writes the whole site three times, which takes half a minute with the race detector")
	}
	t.Parallel()
	tour, err := New(Options{})
	proof.Must(t, err)
	defer tour.Close()
	over, end := context.WithCancel(t.Context())
	end() // the files are written, and no scenario is played
	export := func(dir string, force bool) error { return tour.Export(over, dir, force, func(string) {}) }

	dir := t.TempDir()
	index := filepath.Join(dir, "index.html")
	proof.Must(t, os.WriteFile(index, []byte("<p>a page of another site</p>"), 0o600))
	if err := export(dir, false); !errors.Is(err, ErrForeign) {
		t.Errorf("over another page: %v, want %v", err, ErrForeign)
	}
	for _, force := range []bool{true, false} { // then the page is its own
		if err := export(dir, force); errors.Is(err, ErrForeign) || !errors.Is(err, context.Canceled) {
			t.Errorf("with force %v: %v, want it to be interrupted", force, err)
		}
	}

	dir, outside := t.TempDir(), filepath.Join(t.TempDir(), "precious")
	proof.Must(t, os.WriteFile(outside, []byte("precious"), 0o600))
	proof.Must(t, os.Mkdir(filepath.Join(dir, "data"), 0o755))
	proof.Must(t, os.Symlink(outside, filepath.Join(dir, "data", "book.json")))
	if err := export(dir, false); err == nil || errors.Is(err, context.Canceled) {
		t.Errorf("through a symbolic link: %v, want it to be refused", err)
	}
	if text, err := os.ReadFile(outside); err != nil || string(text) != "precious" {
		t.Errorf("the file that the link leads to has become %q, %v", text, err)
	}
}

func TestAnExportCanBeReadWithoutAServer(t *testing.T) {
	t.Parallel()
	site, err := exportedFast()
	proof.Must(t, err)
	dir, names := site.Dir, site.Recorded
	read := func(name string, into any) {
		t.Helper()
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err == nil && into != nil {
			err = json.Unmarshal(text, into)
		}
		if err != nil {
			t.Error(err)
		}
	}
	index, err := os.ReadFile(filepath.Join(dir, "index.html"))
	if err != nil || !strings.Contains(string(index), `<meta name="tour" content="static">`) {
		t.Errorf("index.html is not static: %v", err)
	}
	if want := `<meta http-equiv="Content-Security-Policy" content="default-src 'none'; script-src 'self';`; !strings.Contains(string(index), want) {
		t.Errorf("index.html has no %s", want)
	}
	var b contents
	read("data/book.json", &b)
	for _, c := range b.Chapters {
		var chapter struct{ HTML string }
		read("data/chapter/en/"+c.ID+".json", &chapter)
	}
	if len(names) != len(b.Scenarios) {
		t.Errorf("recorded %q", names)
	}
	for _, s := range b.Scenarios {
		var r struct {
			Servers []serverEvent
			Sources map[string]string
			Log     []anEvent
		}
		read("data/recording/"+s.Name+".json", &r)
		acts := 0
		for _, e := range r.Log {
			if e.Type == "act" {
				acts++
			}
		}
		if len(r.Servers) != 2 || acts != len(s.Acts) {
			t.Errorf("%s: %d servers, %d acts of %d", s.Name, len(r.Servers), acts, len(s.Acts))
		}
		for _, server := range r.Servers {
			for _, file := range server.Files {
				var source source
				read("data/source/"+file+".json", &source)
			}
		}
	}
}

func TestTheLostEdgeIsSeen(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("an exercise is built with the go command")
	}
	p := newRig(t, Options{}).open()
	broken, right := p.add("exercise/06-one-read-per-edge"), p.add("edgetriggered")
	p.act("a", "connect", "")
	long := play.Bytes(half + "Cookie: " + strings.Repeat("7", 2000) + "\r\n" + rest)
	p.act("a", "send", long)
	p.awaitState(right, "a", "answered")
	var last trace.Event
	p.await("epoll_wait of the broken one, with a part of the bytes unread", func(events []anEvent) bool {
		v := view(events, broken)
		last = lastCall(events, broken)
		return len(v.Conns) == 1 && v.Conns[0].Client == "a" && v.Conns[0].Unread > 0 &&
			int(v.Conns[0].Unread) < len(long) &&
			v.Conns[0].Accepted && v.Conns[0].FD > 0 && len(v.Interest) == 2 &&
			last.Name == "epoll_wait" && !last.Left
	})
	if last.File != "exercise/06-one-read-per-edge/main.go" {
		t.Errorf("it is blocked in %+v", last)
	}
	text, err := book.Source(last.File)
	if err != nil {
		t.Fatal(err)
	}
	if line := strings.Split(text, "\n")[last.Line-1]; !strings.Contains(line, "unix.EpollWait(") {
		t.Errorf("it stands on line %d, %q", last.Line, line)
	}
	if s := state(p.all(), broken, "a").State; s != "waiting" {
		t.Errorf("a is %s", s)
	}
}

// lastCall is the last half of a call that is made in the source of the server.
func lastCall(events []anEvent, server string) trace.Event {
	var last trace.Event
	for _, e := range events {
		if e.Type == "call" && e.Server == server && e.Event.File != "" {
			last = e.Event
		}
	}
	return last
}

// A reader's own server shows its own lines. These files can be read, and no others
// of this machine.
func TestAServerOfOnesOwn(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("a server is built with the go command")
	}
	dir := filepath.Join(t.TempDir(), "mine")
	if err := buildMine(dir); err != nil {
		t.Fatal(err)
	}
	r := newRig(t, Options{Program: []string{filepath.Join(dir, "server"), "{addr}"}})
	p := r.open()
	mine := p.add("program")
	p.act("a", "connect", "")
	p.act("a", "send", half)
	p.await("it is blocked in read", func(events []anEvent) bool {
		last := lastCall(events, mine)
		return last.Name == "read" && !last.Left && last.File == "program/mine/main.go"
	})
	var s source
	r.must("GET", "/api/source?file=program/mine/main.go", nil, &s)
	if line := lastCall(p.all(), mine).Line; line < 1 || !strings.Contains(fmt.Sprint(s.Lines[line-1]), "Read") {
		t.Errorf("line %d of %d", line, len(s.Lines))
	}
	if status, _ := p.ask("GET", "/api/source?file=program/mine/go.mod", nil); status != http.StatusNotFound {
		t.Errorf("a file that is none of its sources: %d", status)
	}
}

// buildMine builds a server that reads once, in a blocking call.
func buildMine(dir string) error {
	const main = `package main

import (
	"net"
	"os"
)

func main() {
	l, err := net.Listen("tcp", os.Args[1])
	if err != nil {
		panic(err)
	}
	for {
		c, err := l.Accept()
		if err != nil {
			panic(err)
		}
		file, err := c.(*net.TCPConn).File()
		if err != nil {
			panic(err)
		}
		file.Fd() // from now on, a read blocks its thread
		serve(file)
	}
}

func serve(file *os.File) {
	var buffer [100]byte
	for {
		if n, err := file.Read(buffer[:]); n == 0 || err != nil {
			return
		}
	}
}
`
	err := errors.Join(os.Mkdir(dir, 0o755),
		os.WriteFile(filepath.Join(dir, "main.go"), []byte(main), 0o644),
		os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module mine\n"), 0o644))
	if err != nil {
		return err
	}
	cmd := exec.Command("go", "build", "-o", "server", ".")
	cmd.Dir = dir
	cmd.Env = append(cmd.Environ(), "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, out)
	}
	return nil
}

// A server in Python shows its own lines, too, also those of a file that it imports: its
// recording has both. Only while it runs is it known which files it has.
func TestAServerInPython(t *testing.T) {
	t.Parallel()
	// The command may be a script: tracing that takes seconds.
	python, err := exec.Command("python3", "-c", "import sys; print(sys.executable, end='')").Output()
	if err != nil && os.Getenv("CI") == "" {
		t.Skip(err)
	}
	proof.Must(t, err)
	dir := filepath.Join(t.TempDir(), "mine")
	proof.Must(t, os.Mkdir(dir, 0o755))
	main := filepath.Join(dir, "server.py")
	proof.Must(t, os.WriteFile(main, []byte(`import socket, sys
import parts

listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    connection, _ = listener.accept()
    parts.answer(connection)
`), 0o644))
	proof.Must(t, os.WriteFile(filepath.Join(dir, "parts.py"), []byte(`def answer(connection):
    connection.recv(1000)
    connection.close()
`), 0o644))
	r := newRig(t, Options{Program: []string{string(python), "-B", main, "{port}"}})
	p := r.open()
	mine := p.add("program")
	p.await("it is blocked in accept4", func(events []anEvent) bool {
		last := lastCall(events, mine)
		return last.Name == "accept4" && !last.Left && last.File == "program/mine/server.py" && last.Line == 6
	})
	p.act("a", "connect", "")
	p.await("it is blocked in recv", func(events []anEvent) bool {
		last := lastCall(events, mine)
		return last.Name == "recv" && !last.Left && last.File == "program/mine/parts.py" && last.Line == 2
	})
	var s source
	r.must("GET", "/api/source?file=program/mine/parts.py", nil, &s)
	if len(s.Lines) != 3 || !slices.Contains(s.Lines[1], book.Token{"function", "recv"}) {
		t.Errorf("the source: %v", s.Lines)
	}
	var got struct {
		Servers []serverEvent
		Sources map[string]string
	}
	p.must("GET", p.base+"/recording", nil, &got)
	if len(got.Servers) != 1 || !got.Servers[0].Lines || got.Servers[0].Note != "" || len(got.Sources) != 2 {
		t.Errorf("%+v, %d sources", got.Servers, len(got.Sources))
	}
}

// A source file may have moved since its program was built.
func TestARecordingIsSavedWithoutASourceThatHasMoved(t *testing.T) {
	t.Parallel()
	p := newRig(t, Options{}).open()
	p.add("epoll")
	p.tour.sources.mu.Lock()
	p.tour.sources.files = map[string]string{"program/here.go": "tour_test.go", "program/gone.go": "/no/such/gone.go"}
	p.tour.sources.mu.Unlock()
	s, err := p.tour.session(p.id)
	proof.Must(t, err)
	c := s.shown()[0]
	c.mu.Lock()
	c.about.Files = []string{"program/here.go", "program/gone.go"}
	c.mu.Unlock()
	var got struct {
		Servers []serverEvent
		Sources map[string]string
	}
	p.must("GET", p.base+"/recording", nil, &got)
	if len(got.Servers) != 1 || len(got.Sources) != 1 || got.Sources["program/here.go"] == "" {
		t.Errorf("%d servers, %d sources", len(got.Servers), len(got.Sources))
	}
}

func TestAServerOfOnesOwnThatDoesNotStart(t *testing.T) {
	t.Parallel()
	p := newRig(t, Options{Program: []string{"sh", "-c", "exit 3", "{addr}"}}).open()
	status, answer := p.ask("POST", p.base+"/servers", map[string]string{"add": "program"})
	if status != http.StatusUnprocessableEntity || !strings.Contains(answer, "exit status 3") {
		t.Errorf("%d %s", status, answer)
	}
	p.awaitOne("it has failed", func(e anEvent) bool {
		return e.Type == "server" && e.State == failed && strings.Contains(e.Error, "exit status 3")
	})
}

func TestColumnsThatDoNotExist(t *testing.T) {
	t.Parallel()
	for _, columns := range [][]string{{"none"}, {"exercise/none"}, slices.Repeat([]string{"epoll"}, 9)} {
		if _, err := New(Options{Columns: columns}); err == nil {
			t.Errorf("%q is no fault", columns)
		}
	}
}

// newest is the number of the last event.
func (j *journal) newest() int64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.seq
}

// made is how many halves of calls a server has made.
func (j *journal) made(server string) int64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	if r := j.calls[server]; r != nil {
		return r.pushed
	}
	return 0
}

// Every address has a name: that of a client of the session, or one that it gets.
func TestNamesOfClients(t *testing.T) {
	var known peers
	at := func(port int) netip.AddrPort {
		return netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(port))
	}
	known.meet(at(1), "a")
	for _, step := range []struct {
		port int
		want string
	}{{1, "a"}, {2, "out1"}, {3, "out2"}, {2, "out1"}} {
		if got := known.nameOf(at(step.port)); got != step.want {
			t.Errorf("port %d is %q, want %q", step.port, got, step.want)
		}
	}
	known.meet(at(2), "b") // the port is used again
	if got := known.nameOf(at(2)); got != "b" {
		t.Errorf("port 2 is %q, want b", got)
	}
	for port := range 10000 {
		known.meet(at(10000+port), "c")
	}
	if n := len(known.names); n > 5000 || n != len(known.order) {
		t.Errorf("%d names are kept, in an order of %d", n, len(known.order))
	}
	if got := known.nameOf(at(19999)); got != "c" {
		t.Errorf("the newest is %q, want c", got)
	}
}
