//go:build linux

// Package tour shows the lessons running, side by side, beside the chapters: a
// page in the browser, and behind it real servers of this process, each watched
// in every system call. See docs/tour.md.
//
// Each page has a session: servers and clients of its own, which end with it. What
// happens goes to the page as a stream of events; what a learner does comes as
// acts. A page that is too slow misses events, and is informed; no server waits for a
// page.
package tour

import (
	"context"
	"crypto/rand"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"lesson/internal/lesson"
	"lesson/internal/observe/proc"
)

//go:embed page
var embedded embed.FS

// page is index.html and what it loads.
func page() fs.FS {
	sub, err := fs.Sub(embedded, "page")
	if err != nil {
		panic(err) // it is embedded
	}
	return sub
}

// ownProgram is the column with the server that the tour was started with.
const ownProgram = "program"

// Options is what a tour is started with.
type Options struct {
	// Columns is the servers that a page begins with: lessons by name, or
	// "exercise/NAME". nil is the five lessons.
	Columns []string
	// Program is the command of a server of the learner's own, as package launch
	// has it, shown as a column "program"; nil for none.
	Program []string
	// Live returns the page of Export on which the lessons run in the browser. It links
	// to book, the page with the chapters. nil for an export without one.
	Live func(ctx context.Context, book string) (page []byte, err error)
	// Linger is how long a session outlives its last page: 0 is 15 s.
	Linger time.Duration
}

// A Tour serves pages.
type Tour struct {
	options Options
	most    int     // sessions at a time
	speed   float64 // of the scenarios that are exported
	builds  builds
	sources ownSources
	threads threads

	mu       sync.Mutex
	closed   bool
	sessions map[string]*session
}

// New is a tour without a page. It fails when the columns are none.
func New(options Options) (*Tour, error) {
	if options.Linger == 0 {
		options.Linger = 15 * time.Second
	}
	if options.Columns == nil {
		for _, l := range lesson.Steps() {
			options.Columns = append(options.Columns, l.Name)
		}
	}
	if len(options.Program) > 0 {
		options.Columns = append([]string{ownProgram}, options.Columns...)
	}
	if len(options.Columns) > maxColumns {
		return nil, fmt.Errorf("%d servers; at most %d fit", len(options.Columns), maxColumns)
	}
	t := &Tour{
		options: options, speed: 1, threads: threads{left: mostThreads}, sessions: map[string]*session{},
	}
	if len(options.Program) > 0 {
		var err error
		if t.sources.files, err = findSources(options.Program); err != nil {
			return nil, err
		}
	}
	for _, name := range options.Columns {
		if _, err := t.column("", name, newJournal()); err != nil {
			return nil, err
		}
	}
	limits, err := proc.ReadLimits()
	if err != nil {
		return nil, err
	}
	// Half of the descriptors is left to all else.
	t.most = max(1, min(maxSessions, limits.Descriptors/2/descriptorsEach))
	return t, nil
}

// Listen listens on an address as net.Listen does, but on 0.0.0.0 for IPv4 alone:
// net.Listen takes that for the addresses of both families.
func Listen(address string) (net.Listener, error) {
	network := "tcp"
	if at, err := netip.ParseAddrPort(address); err == nil && at.Addr().Is4() {
		network = "tcp4"
	}
	return net.Listen(network, address)
}

// Serve serves the page at a listener, until the context ends; then it ends all
// sessions. host is what the listener was asked for, as in "localhost:8090".
func (t *Tour) Serve(ctx context.Context, listener net.Listener, host string) error {
	server := &http.Server{
		Handler:           t.Handler(host, listener.Addr()),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      buildWithin + writeWithin,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ConnContext:       withVisitor,
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(newGate(listener, mostConnections)) }()
	select {
	case err := <-served:
		return errors.Join(err, t.Close())
	case <-ctx.Done():
	}
	err := t.Close() // its streams end with it
	closing, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if server.Shutdown(closing) != nil {
		err = errors.Join(err, server.Close())
	}
	<-served
	return err
}

// Close ends all sessions, and returns when they have ended.
func (t *Tour) Close() error {
	t.mu.Lock()
	t.closed = true
	var all []*session
	for _, s := range t.sessions {
		all = append(all, s)
	}
	t.mu.Unlock()
	for _, s := range all {
		s.end()
	}
	for _, s := range all {
		<-s.ended
	}
	return t.builds.close()
}

// begin begins a session.
func (t *Tour) begin() (*session, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.closed:
		return nil, gone("the tour ends")
	case len(t.sessions) >= t.most:
		return nil, tooMany("%d pages are open already", t.most).hint("close one, and wait a moment")
	}
	s := newSession(t, rand.Text())
	t.sessions[s.id] = s
	return s, nil
}

// session is the session with that id.
func (t *Tour) session(id string) (*session, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s := t.sessions[id]; s != nil && s.ctx.Err() == nil {
		return s, nil
	}
	return nil, notFound("no session %q", id).hint("it has ended; load the page again")
}

// forget drops a session that has ended.
func (t *Tour) forget(s *session) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.sessions, s.id)
}
