//go:build linux

package tour

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"lesson/internal/observe/trace"
	"lesson/internal/play"
	"lesson/internal/proof"
)

// A request in two halves.
const (
	half = play.FirstLine
	rest = "\r\n"
)

// TestMain ends what several tests share. Most of the tests wait for a server or a page,
// so that more of them run at the same time than there are processors.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "hold" {
		holdConnections(os.Args[2])
		return
	}
	flag.Parse()
	err := flag.Set("test.parallel", "6")
	status := m.Run()
	for _, end := range slices.Backward(ends) {
		err = errors.Join(err, end())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		status = 1
	}
	os.Exit(status)
}

var (
	endsMu sync.Mutex
	ends   []func() error
)

// AtEnd lets TestMain call end when all tests are over.
func AtEnd(end func() error) {
	endsMu.Lock()
	defer endsMu.Unlock()
	ends = append(ends, end)
}

// TempDir returns a folder that is removed when all tests are over.
func TempDir(name string) (string, error) {
	dir, err := os.MkdirTemp("", name)
	if err == nil {
		AtEnd(func() error { return os.RemoveAll(dir) })
	}
	return dir, err
}

// A rig is a tour that is served, and one page of it.
type rig struct {
	t    *testing.T
	tour *Tour
	url  string
	http *http.Client
}

func newRig(t *testing.T, options Options) *rig {
	t.Helper()
	tour, err := New(options)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- tour.Serve(ctx, listener, "localhost:0") }()
	r := &rig{t: t, tour: tour, url: "http://" + listener.Addr().String(), http: &http.Client{
		Transport: &http.Transport{},
	}}
	t.Cleanup(func() {
		cancel()
		r.http.CloseIdleConnections()
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return r
}

// ask makes a request as the page makes it, and returns what came.
func (r *rig) ask(method, path string, body any, change ...func(*http.Request)) (int, string) {
	r.t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		r.t.Fatal(err)
	}
	request, err := http.NewRequest(method, r.url+path, bytes.NewReader(text))
	if err != nil {
		r.t.Fatal(err)
	}
	request.Header.Set(ourHeader, "1")
	for _, c := range change {
		c(request)
	}
	response, err := r.http.Do(request)
	if err != nil {
		r.t.Fatal(err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return response.StatusCode, string(answer)
}

// must is ask, for an answer that is expected to be good.
func (r *rig) must(method, path string, body, into any) {
	r.t.Helper()
	status, answer := r.ask(method, path, body)
	if status != http.StatusOK {
		r.t.Fatalf("%s %s: %d %s", method, path, status, answer)
	}
	if into != nil {
		if err := json.Unmarshal([]byte(answer), into); err != nil {
			r.t.Fatalf("%s %s: %v in %q", method, path, err, answer)
		}
	}
}

// An anEvent is any event, as a page gets it.
type anEvent struct {
	Seq      int64
	At       int64
	Type     string
	Server   string
	Client   string
	State    string
	Error    string
	Addr     string
	Got      string
	Peer     string
	Name     string
	Next     int
	Calls    int64
	Threads  int
	Sent     int64
	Event    trace.Event
	Open     []trace.Event
	Act      play.Act
	Listener *queue
	Conns    []connection
	Interest []interest
	Stands   *stance
	Verdicts []verdict
}

// A page is a session, and what its stream has told.
type aPage struct {
	*rig
	id    string
	base  string
	leave context.CancelFunc
	left  chan struct{}

	mu     sync.Mutex
	events []anEvent
	ids    []string
}

func (r *rig) open() *aPage {
	r.t.Helper()
	var began struct{ ID string }
	r.must("POST", "/api/sessions", nothing{}, &began)
	p := &aPage{rig: r, id: began.ID, base: "/api/sessions/" + began.ID}
	p.follow("")
	return p
}

// follow reads the stream until leave.
func (p *aPage) follow(after string) {
	p.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	p.leave, p.left = cancel, make(chan struct{})
	request, err := http.NewRequestWithContext(ctx, "GET", p.url+p.base+"/events", nil)
	if err != nil {
		p.t.Fatal(err)
	}
	request.Header.Set(ourHeader, "1")
	if after != "" {
		request.Header.Set("Last-Event-ID", after)
	}
	response, err := p.http.Do(request)
	if err != nil || response.StatusCode != http.StatusOK {
		p.t.Fatalf("events: %v %v", response, err)
	}
	left := p.left
	go func() {
		defer close(left)
		defer response.Body.Close()
		p.read(ctx, response.Body)
	}()
	p.t.Cleanup(func() { cancel(); <-left })
}

// read takes what comes, as a browser does: an event counts when the empty line after it
// has come, and what the end of the stream cuts off does not.
func (p *aPage) read(ctx context.Context, body io.Reader) {
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, 64<<20)
	id, data := "", ""
	for lines.Scan() {
		switch line := lines.Text(); {
		case strings.HasPrefix(line, "id: "):
			id = line[len("id: "):]
		case strings.HasPrefix(line, "data: "):
			data = line[len("data: "):]
		case line == "" && data != "":
			p.take(ctx, id, data)
			data = ""
		}
	}
}

func (p *aPage) take(ctx context.Context, id, data string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ids = append(p.ids, id)
	var batch []anEvent
	if err := json.Unmarshal([]byte(data), &batch); err != nil && ctx.Err() == nil {
		p.t.Errorf("events: %v in %q", err, data)
	}
	p.events = append(p.events, batch...)
}

func (p *aPage) all() []anEvent {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.events)
}

// await waits until the events so far fulfil a condition.
func (p *aPage) await(what string, is func([]anEvent) bool) {
	p.t.Helper()
	proof.Eventually(p.t, what, func() bool { return is(p.all()) })
}

// awaitOne waits for one event.
func (p *aPage) awaitOne(what string, is func(anEvent) bool) anEvent {
	p.t.Helper()
	var found anEvent
	p.await(what, func(events []anEvent) bool {
		i := slices.IndexFunc(events, is)
		if i >= 0 {
			found = events[i]
		}
		return i >= 0
	})
	return found
}

// add shows a server and waits until it listens.
func (p *aPage) add(name string) string {
	p.t.Helper()
	var added struct{ Server string }
	p.must("POST", p.base+"/servers", map[string]string{"add": name}, &added)
	p.awaitOne(name+" listens", func(e anEvent) bool {
		return e.Type == "server" && e.Server == added.Server && e.State == listening
	})
	return added.Server
}

// act lets a client act; one that connects also reads.
func (p *aPage) act(client string, do play.Verb, bytes play.Bytes) {
	p.t.Helper()
	p.must("POST", p.base+"/acts",
		play.Act{Client: client, Do: do, Bytes: bytes, Reads: do == play.Connect}, nil)
}

// awaitStanding waits until the server is blocked in a call, in each of the threads
// named: "read blocking/once.go".
func (p *aPage) awaitStanding(server string, want ...string) {
	p.t.Helper()
	var got []string
	defer func() {
		if p.t.Failed() {
			p.t.Logf("%s is blocked in %q, not in %q", server, got, want)
		}
	}()
	slices.Sort(want)
	p.await(fmt.Sprintf("%s is blocked in %q", server, want), func(events []anEvent) bool {
		got = nil
		for _, call := range standing(events, server) {
			got = append(got, call.Name+" "+call.File)
		}
		slices.Sort(got)
		return slices.Equal(got, want)
	})
}

// standing returns the calls that a page takes for open.
func standing(events []anEvent, server string) []trace.Event {
	seen := trace.NewState()
	for _, e := range events {
		switch {
		case e.Server != server:
		case e.Type == "missed":
			seen = trace.NewState()
			for _, call := range e.Open {
				seen.Note(call)
			}
		case e.Type == "call":
			seen.Note(e.Event)
		}
	}
	return seen.Open()
}

// state is the newest state of a client at a server.
func state(events []anEvent, server, client string) (last anEvent) {
	for _, e := range events {
		if e.Type == "client" && e.Server == server && e.Client == client {
			last = e
		}
	}
	return last
}

func (p *aPage) awaitState(server, client, want string) anEvent {
	p.t.Helper()
	p.await(fmt.Sprintf("%s of %s is %s", client, server, want), func(events []anEvent) bool {
		return state(events, server, client).State == want
	})
	return state(p.all(), server, client)
}

// view is the newest of what the kernel says about a server.
func view(events []anEvent, server string) (last anEvent) {
	for _, e := range events {
		if e.Type == "kernel" && e.Server == server {
			last = e
		}
	}
	return last
}
