//go:build linux

package tour

import (
	"context"
	"fmt"
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
	maxOutsiders = 64       // connections of a server besides those of the clients
	maxSessions  = 16
	maxStreams   = 4       // pages that follow the same session
	maxWaiting   = 4 << 20 // bytes of acts that have not been done, at all servers

	// descriptorsEach is the most that one session needs.
	descriptorsEach = maxColumns * (2*maxClients + maxOutsiders + 8)
)

// looksEvery is how long the kernel is not asked again, unless a client of the session
// acts. While nothing happens, the time between two questions doubles up to looksIdle.
const (
	looksEvery = 250 * time.Millisecond
	looksIdle  = time.Second
)

// actWithin is how long an act may take before its sender is answered that it is under
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
	seen    map[string]*kernelEvent // by server, the last that was sent; under looking
	peers   peers

	mu      sync.Mutex
	over    bool
	columns []*column
	names   int             // servers so far, for their ids
	clients map[string]bool // that have ever acted
	streams int             // pages that follow
	waiting int             // bytes of acts that have not been done
	leave   *time.Timer     // ends the session when no page follows

	saving sync.Mutex // held while a recording is written

	performed *performance // the scenario that is played, or was played last; or nil
}

func newSession(t *Tour, id string) *session {
	s := &session{
		id: id, tour: t, journal: newJournal(), ended: make(chan struct{}),
		soon: make(chan struct{}, 1), seen: map[string]*kernelEvent{},
		clients: map[string]bool{},
	}
	s.ctx, s.end = context.WithCancel(context.Background())
	s.leave = time.AfterFunc(t.options.Linger, s.end)
	go s.live()
	return s
}

// live looks at the kernel while the session lasts, and then ends all that is its.
func (s *session) live() {
	defer close(s.ended)
	news := make(chan struct{}, 1)
	defer s.journal.listen(news)()
	idle := looksEvery
	for s.nextLook(news, &idle) {
		if err := s.look(idle > looksEvery); err != nil {
			s.journal.tell("trouble", "trouble", &troubleEvent{Error: err.Error()})
		}
	}
	s.close()
}

// nextLook waits until the kernel is to be asked again: soon when a client has acted, after
// looksEvery when something else has happened, else after idle, which it doubles. It
// returns false when the session ends.
func (s *session) nextLook(news <-chan struct{}, idle *time.Duration) bool {
	rest := *idle
	*idle = looksEvery
	select {
	case <-s.ctx.Done():
		return false
	case <-s.soon:
		return true
	case <-time.After(looksEvery):
	}
	select {
	case <-s.ctx.Done():
		return false
	case <-s.soon:
	case <-news:
	case <-time.After(rest):
		*idle = min(2*rest, looksIdle)
	}
	return true
}

// A troubleEvent says what cannot be shown, and why.
type troubleEvent struct {
	header
	Error string `json:"error"`
}

// close ends the clients and the servers.
func (s *session) close() {
	s.mu.Lock()
	s.over = true
	s.leave.Stop()
	performed := s.performed
	s.mu.Unlock()
	if performed != nil {
		performed.stop()
	}
	var ending sync.WaitGroup
	s.mu.Lock()
	for _, c := range s.columns {
		ending.Go(c.clients.Close)
		ending.Go(c.stop)
	}
	s.mu.Unlock()
	ending.Wait()
	s.tour.forget(s)
}

// follow notes that a page follows, until done is called.
func (s *session) follow() (done func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.streams >= maxStreams {
		return nil, tooMany("%d pages follow this session already", maxStreams).hint("load the page again")
	}
	s.streams++
	s.leave.Stop()
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.streams--
		if s.streams == 0 && !s.over {
			s.leave.Reset(s.tour.options.Linger)
		}
	}, nil
}

// shown is the servers that are shown now.
func (s *session) shown() []*column {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.columns)
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
	c.clients = s.clientsOf(c)
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
	return t.lessonColumn(id, l, j), nil
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
	clients := c.clients
	s.mu.Unlock()
	clients.Close()
	for _, seen := range clients.Record().Clients {
		s.journal.forget("client/" + id + "/" + seen.Name)
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
