//go:build linux

package tour

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"lesson/internal/lesson"
)

// Bounds of a session. A client and a server have a descriptor each for a
// connection, and all are this process's.
const (
	maxClients   = 32
	maxColumns   = 8
	maxBytes     = 16 << 10 // that a client sends at once
	maxSent      = 1 << 20  // that a client sends on one connection
	maxActs      = 64       // of one client that wait until they are done
	maxOutsiders = 64       // connections of a server besides those of the clients
	maxSessions  = 16

	// descriptorsEach is the most that one session needs.
	descriptorsEach = maxColumns * (2*maxClients + maxOutsiders + 8)
)

// looksEvery is how often the kernel is asked, when nobody acts.
const looksEvery = 250 * time.Millisecond

// actWithin is how long an act may take before its sender is told that it is under
// way: a connect to a full accept queue takes seconds.
const actWithin = 500 * time.Millisecond

// A session is one page's servers and clients.
type session struct {
	id      string
	tour    *Tour
	journal *journal
	ctx     context.Context // ends with the session
	end     context.CancelFunc
	ended   chan struct{} // closed when nothing is left of it
	soon    chan struct{} // look at the kernel

	looking sync.Mutex
	seen    map[string]*kernelEvent // by server, the last that was told; under looking

	mu      sync.Mutex
	over    bool
	columns []*column
	names   int               // servers so far, for their ids
	links   map[string]*link  // by server and client
	clients map[string]bool   // that have ever acted
	peers   map[string]string // whose address that is
	streams int               // pages that follow
	leave   *time.Timer       // ends the session when no page follows
	play    *performance      // the scenario that is played, or nil
}

func newSession(t *Tour, id string) *session {
	s := &session{
		id: id, tour: t, journal: newJournal(), ended: make(chan struct{}),
		soon: make(chan struct{}, 1), seen: map[string]*kernelEvent{},
		links: map[string]*link{}, clients: map[string]bool{}, peers: map[string]string{},
	}
	s.ctx, s.end = context.WithCancel(context.Background())
	s.leave = time.AfterFunc(t.options.Linger, s.end)
	go s.live()
	return s
}

// live looks at the kernel while the session lasts, and then ends all that is its.
func (s *session) live() {
	defer close(s.ended)
	tick := time.NewTicker(looksEvery)
	defer tick.Stop()
	for {
		select {
		case <-s.ctx.Done():
			s.close()
			return
		case <-tick.C:
		case <-s.soon:
		}
		if err := s.look(); err != nil {
			s.journal.tell("trouble", "trouble", &troubleEvent{Error: err.Error()})
		}
	}
}

// A troubleEvent says what cannot be shown, and why.
type troubleEvent struct {
	header
	Error string `json:"error"`
}

// close ends the clients, then the servers: a server that lingers for a client waits.
func (s *session) close() {
	s.mu.Lock()
	s.over = true
	s.leave.Stop()
	play := s.play
	s.mu.Unlock()
	if play != nil {
		play.stop()
	}
	s.mu.Lock()
	links, columns := s.links, s.columns
	s.links = map[string]*link{}
	s.mu.Unlock()
	for _, l := range links {
		close(l.acts)
	}
	var stopping sync.WaitGroup
	for _, c := range columns {
		stopping.Go(c.stop)
	}
	for _, l := range links {
		<-l.gone
	}
	stopping.Wait()
	s.tour.forget(s)
}

// follow notes that a page follows, until the function that it returns is called.
func (s *session) follow() (done func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.streams++
	s.leave.Stop()
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.streams--
		if s.streams == 0 && !s.over {
			s.leave.Reset(s.tour.options.Linger)
		}
	}
}

// shown is the servers that are shown now.
func (s *session) shown() []*column {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.columns)
}

// nameOf is the client with that address, "" for an outsider.
func (s *session) nameOf(peer netip.AddrPort) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.peers[peer.String()]
}

// add shows a server: a lesson by name, "exercise/NAME", or "program", the server
// that the tour was started with.
func (s *session) add(name string) (string, error) {
	s.mu.Lock()
	if len(s.columns) >= maxColumns {
		s.mu.Unlock()
		return "", tooMany("%d servers are shown already", maxColumns).
			hint("take one away first")
	}
	if s.over {
		s.mu.Unlock()
		return "", gone("the session has ended")
	}
	id := fmt.Sprintf("s%d", s.names+1)
	c, err := s.tour.column(id, name, s.journal)
	if err != nil {
		s.mu.Unlock()
		return "", err
	}
	s.names++
	s.columns = append(s.columns, c)
	s.mu.Unlock()
	if err := c.launch(); err != nil {
		return id, failure(err)
	}
	s.lookSoon()
	return id, nil
}

// column makes a column of a server by name.
func (t *Tour) column(id, name string, j *journal) (*column, error) {
	if name == ownProgram && len(t.options.Program) > 0 {
		return t.programColumn(id, j), nil
	}
	if exercise, ok := strings.CutPrefix(name, "exercise/"); ok {
		return t.exerciseColumn(id, exercise, j)
	}
	l, err := lesson.Find(name)
	if err != nil {
		return nil, notFound("%v", err)
	}
	return lessonColumn(id, l, j), nil
}

func (s *session) find(id string) (*column, error) {
	for _, c := range s.shown() {
		if c.id == id {
			return c, nil
		}
	}
	return nil, notFound("no server %q", id)
}

// again starts a server that has ended.
func (s *session) again(id string) error {
	c, err := s.find(id)
	if err != nil {
		return err
	}
	if err := c.launch(); err != nil {
		return failure(err)
	}
	s.lookSoon()
	return nil
}

// remove takes a server away, and its clients' connections to it.
func (s *session) remove(id string) error {
	c, err := s.find(id)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.columns = slices.DeleteFunc(s.columns, func(other *column) bool { return other == c })
	var links []*link
	for key, l := range s.links {
		if l.column == c {
			links = append(links, l)
			delete(s.links, key)
			close(l.acts)
		}
	}
	s.mu.Unlock()
	for _, l := range links {
		<-l.gone
		s.journal.forget("client/" + id + "/" + l.about.Client)
	}
	c.stop()
	s.looking.Lock()
	delete(s.seen, id)
	s.looking.Unlock()
	s.journal.forget("kernel/" + id)
	s.journal.forget("server/" + id)
	s.journal.removed(id)
	s.journal.tell("", "server", &serverEvent{Server: id, Lesson: c.about.Lesson, State: removed})
	return nil
}

// act lets a client act on all servers that are shown. It returns when it has, or
// has not within actWithin.
func (s *session) act(a Act, by string) error {
	if err := a.check(); err != nil {
		return err
	}
	done := make(chan struct{}, maxColumns)
	tasks, err := s.hand(a, by, func() { done <- struct{}{} })
	if err != nil {
		return err
	}
	late := time.After(actWithin)
	for range tasks {
		select {
		case <-done:
		case <-late:
			s.lookSoon()
			return nil
		}
	}
	s.lookSoon()
	return nil
}

// hand hands an act to the client's links, and says how many there are.
func (s *session) hand(a Act, by string, done func()) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.over:
		return 0, gone("the session has ended")
	case !s.clients[a.Client] && a.Do != "connect":
		return 0, badRequest("%s is not connected", a.Client).hint("it connects first")
	case !s.clients[a.Client] && len(s.clients) >= maxClients:
		return 0, tooMany("there are %d clients already", maxClients).
			hint("use one of them again")
	}
	s.clients[a.Client] = true
	s.journal.tell("", "act", &actEvent{Act: a, By: by})
	tasks := 0
	for _, c := range s.columns {
		key := c.id + "/" + a.Client
		l := s.links[key]
		if l == nil && a.Do != "connect" {
			continue
		}
		if l == nil {
			l = newLink(a.Client, c, s.journal, s.meet)
			s.links[key] = l
		}
		if !l.do(a, done) {
			return tasks, tooMany("%d acts of %s wait already", maxActs, a.Client)
		}
		tasks++
	}
	return tasks, nil
}

// meet notes whose address that is.
func (s *session) meet(peer netip.AddrPort, name string) {
	const most = 4096 // ports that may still be seen in the kernel; the rest was long ago
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.peers) >= most {
		clear(s.peers)
	}
	s.peers[peer.String()] = name
}

// dismiss closes all connections of the clients, for a fresh start.
func (s *session) dismiss() {
	s.mu.Lock()
	links := s.links
	s.links, s.clients = map[string]*link{}, map[string]bool{}
	s.mu.Unlock()
	for _, l := range links {
		close(l.acts)
	}
	for _, l := range links {
		<-l.gone
		l.mu.Lock()
		l.tell("closed", "")
		l.mu.Unlock()
	}
}

// lookSoon asks the kernel now, and once more when the servers have had time to act.
func (s *session) lookSoon() {
	look := func() {
		select {
		case s.soon <- struct{}{}:
		default:
		}
	}
	look()
	time.AfterFunc(30*time.Millisecond, look)
}
