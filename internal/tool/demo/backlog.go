//go:build linux

package demo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"lesson/epoll"
	"lesson/internal/kernel"
	"lesson/internal/observe/sockets"
	"lesson/internal/report"
	"lesson/internal/server"
)

var backlog = Demo{
	Name:    "backlog",
	Title:   "a full accept queue: which clients are ignored, and how long they wait",
	Chapter: "docs/08-when-the-machine-runs-out.md",
	Drawn:   true,
	Run:     runBacklog,
}

// BacklogData is what lesson demo backlog has seen.
type BacklogData struct {
	Queue  *QueueSeen `json:"queue"`
	Bursts []Burst    `json:"bursts"`
	// Counters is by how much the counters of this network namespace have grown.
	// Whatever else runs in it counts, too.
	Counters map[string]int64 `json:"counters"`
}

func runBacklog(ctx context.Context, o Options) (*Result, error) {
	overflows := []string{"ListenOverflows", "ListenDrops"}
	before, err := tcpExt(overflows...)
	if err != nil {
		return nil, err
	}
	data := BacklogData{Counters: map[string]int64{}}
	o.say("eight clients, a backlog of %d, and a server that does not accept", shortBacklog)
	data.Queue, err = fillQueue(ctx)
	if data.Queue == nil {
		return nil, err
	}
	if err == nil {
		o.say("bursts of %d clients, with %d backlogs, twice", burstSize, len(backlogs))
		data.Bursts, err = bursts(ctx, backlogs, burstWindow)
	}
	after, failed := tcpExt(overflows...)
	for _, name := range overflows {
		data.Counters[name] = after[name] - before[name]
	}
	return data.result(), errors.Join(err, failed)
}

// How the short queue is filled: eight clients of three kinds. It holds one more
// than the backlog: the kernel asks whether it is longer, not whether it is as
// long (sk_acceptq_is_full in include/net/sock.h).
const (
	shortBacklog = 3
	delayed      = 2 // half-way through the handshake when the queue fills
	fitting      = shortBacklog + 1
	ignored      = 2
)

// QueueSeen is what has become of the clients of a server that does not accept.
type QueueSeen struct {
	Backlog uint32        `json:"backlog"` // as the kernel has it
	Length  uint32        `json:"length"`  // of the full accept queue
	Drops   uint32        `json:"drops"`   // segments that the listener has ignored
	Full    time.Duration `json:"full_ns"` // until the server began to accept
	Clients []QueueClient `json:"clients"`
}

// A QueueClient is one of them.
type QueueClient struct {
	// What each side thought when the queue had been full for a while.
	Client string `json:"client"` // a state of TCP
	Server string `json:"server"` // the same, or "nothing"
	// Retries is when the SYN was sent again, from the first time.
	Retries   []time.Duration `json:"retries_ns"`
	Connected time.Duration   `json:"connected_ns"` // connect was done, for this client
	Answered  time.Duration   `json:"answered_ns"`
}

// ignored says whether the server knew nothing of the client.
func (c QueueClient) ignored() bool { return c.Client == sockets.State(synSent).String() }

// deceived says whether the client was connected and the server was not.
func (c QueueClient) deceived() bool {
	return c.Client == sockets.Established.String() && c.Server != c.Client
}

const synSent = 2 // sockets.State has no name for it: no server is ever in it

// fillQueue lets the queue of a server that does not accept fill up, watches the
// clients, and then lets the server accept after all.
func fillQueue(ctx context.Context) (*QueueSeen, error) {
	s, err := newEpollServer(shortBacklog)
	if err != nil {
		return nil, err
	}
	defer s.stop()

	// The first clients do not see the answer to their SYN: their sockets throw
	// away whatever arrives. So might a network. In a second the kernel of the
	// server sends it again.
	b, err := newBurst(s.Addr(), delayed+fitting+ignored)
	if err != nil {
		return nil, err
	}
	defer b.close()
	for _, c := range b.clients[:delayed] {
		if err := deafen(c.fd); err != nil {
			return nil, err
		}
	}
	if err := b.connect(); err != nil {
		return nil, err
	}
	for _, c := range b.clients[:delayed] {
		if err := undeafen(c.fd); err != nil {
			return nil, err
		}
	}

	// The last one tells the time: when its second retry has been ignored, every
	// other has been, and every answer to a SYN has come again.
	last := b.clients[len(b.clients)-1]
	b.timed = true
	if err := b.run(ctx, func() bool { return len(last.retries) == 2 }); err != nil {
		return nil, err
	}
	seen, err := s.look(b)
	if err != nil {
		return nil, err
	}
	seen.Full = b.age()
	s.serve()
	err = b.run(ctx, b.allAnswered)
	for i, c := range b.clients {
		seen.Clients[i].Retries = c.retries
		seen.Clients[i].Connected = c.connected
		seen.Clients[i].Answered = c.answered
	}
	return seen, err
}

// deafen makes a socket ignore what it receives: it asks for segments that have
// come over no router, with a time to live of 255, and loopback sends with 64
// (IP_MINTTL; RFC 5082 says what it is for).
func deafen(fd int) error { return setMinTTL(fd, 255) }

func undeafen(fd int) error { return setMinTTL(fd, 0) }

func setMinTTL(fd, ttl int) error {
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MINTTL, ttl); err != nil {
		return fmt.Errorf("setsockopt IP_MINTTL: %w", err)
	}
	return nil
}

// An epollServer is step 4, in this process. It listens, and accepts no client until
// serve is called, like a server that is busy with something else.
type epollServer struct {
	*epoll.Server
	ended chan error // what Serve has returned; nil before serve
}

func newEpollServer(backlog int) (*epollServer, error) {
	s, err := epoll.New(&kernel.Linux{Nonblocking: true}, server.Options{
		Addr: netip.AddrPortFrom(loopback, 0), Backlog: backlog, Timeout: time.Minute,
	})
	if err != nil {
		return nil, err
	}
	return &epollServer{Server: s}, nil
}

func (s *epollServer) serve() {
	s.ended = make(chan error, 1)
	go func() { s.ended <- s.Serve() }()
}

// stop ends it. Serve also closes the listener, so one that has never served does
// so now.
func (s *epollServer) stop() {
	s.Stop()
	if s.ended == nil {
		s.serve()
	}
	<-s.ended // an error of its would have been seen by the clients
}

// look asks the kernel about the queue, and about each client's two ends.
func (s *epollServer) look(b *burst) (*QueueSeen, error) {
	listeners, err := sockets.Listeners(s.Addr().Port())
	if err != nil {
		return nil, err
	}
	if len(listeners) != 1 {
		return nil, fmt.Errorf("%d listeners on port %d", len(listeners), s.Addr().Port())
	}
	memory, err := memoryOf(s.Listener)
	if err != nil {
		return nil, err
	}
	seen := &QueueSeen{
		Backlog: listeners[0].Unsent, Length: listeners[0].Unread, Drops: memory.drops,
	}
	for _, c := range b.clients {
		info, err := tcpInfo(c.fd)
		if err != nil {
			return nil, err
		}
		q := QueueClient{Client: sockets.State(info.State).String(), Server: "nothing"}
		end, err := sockets.Connection(s.Addr(), c.local)
		if err == nil {
			q.Server = end.State.String()
		} else if !errors.Is(err, sockets.ErrNone) {
			return nil, err
		}
		seen.Clients = append(seen.Clients, q)
	}
	return seen, nil
}

// The tutorial's claim, put to the test: "a backlog under 50 hurts at 100 clients".
const burstSize = 100

var backlogs = []int{1, 5, 10, 25, 50, 98, 99, 100, 128, 512}

// A Burst is clients that come all at once, to one server.
type Burst struct {
	Backlog int `json:"backlog"`
	Clients int `json:"clients"`
	// Away makes the server accept no client until all have connected, as if it
	// were busy with something else. Otherwise it accepts each at once.
	Away    bool `json:"away"`
	Retried int  `json:"retried"` // had to send their SYN again
	// Waiting is how many had no answer when Window was over.
	Waiting int           `json:"waiting"`
	Window  time.Duration `json:"window_ns"`
	Slowest time.Duration `json:"slowest_ns"` // to be answered; Window when some were not
}

// burstWindow is how long a burst is watched. Clients that are ignored together try
// again together: with a short queue that takes too many rounds to watch.
const burstWindow = 5 * time.Second

// between is from one burst to the next, so that they do not meet.
const between = 50 * time.Millisecond

// bursts makes two for each of the backlogs. They begin one after the other; those
// who have to wait a second wait together.
func bursts(ctx context.Context, backlogs []int, window time.Duration) ([]Burst, error) {
	together, err := burstsTogether()
	if err != nil {
		return nil, err
	}
	places := make(chan struct{}, together)
	all := make([]Burst, 2*len(backlogs))
	failed := make([]error, len(all))
	var running sync.WaitGroup
	for i := range all {
		all[i] = Burst{Backlog: backlogs[i/2], Clients: burstSize, Away: i%2 == 0, Window: window}
		places <- struct{}{}
		running.Go(func() {
			failed[i] = all[i].measure(ctx)
			<-places
		})
		if pause(ctx, between) != nil {
			break // each of them will say so
		}
	}
	running.Wait()
	if err := cmp.Or(append([]error{ctx.Err()}, failed...)...); err != nil {
		return nil, err
	}
	return all, nil
}

// burstsTogether is how many bursts there are descriptors for at the same time:
// each client has two, its own and the server's.
func burstsTogether() (int, error) {
	const others = 100 // open besides, and a listener and an interest list for each burst
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 0, fmt.Errorf("getrlimit: %w", err)
	}
	together := (int(min(limit.Cur, 100_000)) - others) / (2 * burstSize)
	if together < 1 {
		return 0, fmt.Errorf("a limit of %d descriptors is too low for %d clients; raise it with: ulimit -n",
			limit.Cur, burstSize)
	}
	return together, nil
}

func (m *Burst) measure(ctx context.Context) error {
	s, err := newEpollServer(m.Backlog)
	if err != nil {
		return err
	}
	defer s.stop()
	if !m.Away {
		s.serve()
	}
	b, err := newBurst(s.Addr(), m.Clients)
	if err != nil {
		return err
	}
	defer b.close()
	if err := b.connect(); err != nil {
		return err
	}
	if m.Away {
		s.serve()
	}
	over := func() bool { return b.allAnswered() || b.age() > m.Window }
	if err := b.run(ctx, over); err != nil {
		return err
	}
	for _, c := range b.clients {
		if c.answered == 0 {
			m.Waiting++
		}
		if err := c.countRetries(); err != nil {
			return err
		}
		if c.synRetries > 0 {
			m.Retried++
		}
		m.Slowest = max(m.Slowest, c.answered)
	}
	if m.Waiting > 0 {
		m.Slowest = m.Window
	}
	return nil
}

func (d BacklogData) result() *Result {
	r := &Result{Demo: "backlog", Data: d}
	r.Tables = append(r.Tables, d.Queue.table())
	r.Sentences = append(r.Sentences, d.Queue.sentences()...)
	if len(d.Bursts) > 0 {
		r.Tables = append(r.Tables, burstTable(d.Bursts))
		r.Sentences = append(r.Sentences, burstSentence(d.Bursts))
		r.Picture = burstPicture(d.Bursts)
	}
	r.Tables = append(r.Tables, counterTable(d.Counters))
	return r
}

func (q *QueueSeen) table() Table {
	t := Table{
		Title: fmt.Sprintf("Eight clients, a backlog of %d; the server does not accept for %s",
			q.Backlog, seconds(q.Full)),
		Head: []string{"client", "its state", "the server's kernel", "SYN again after",
			"connected", "answered"},
	}
	for i, c := range q.Clients {
		t.Rows = append(t.Rows, []string{
			fmt.Sprint(i + 1), c.Client, c.Server, moments(c.Retries),
			moment(c.Connected), moment(c.Answered),
		})
	}
	return t
}

// moments is times in seconds, "–" for none.
func moments(times []time.Duration) string {
	var words []string
	for _, t := range times {
		words = append(words, fmt.Sprintf("%.1f", t.Seconds()))
	}
	if words == nil {
		return "–"
	}
	return strings.Join(words, ", ") + " s"
}

func moment(t time.Duration) string {
	if t == 0 {
		return "–"
	}
	return seconds(t)
}

func (q *QueueSeen) sentences() []string {
	ignored, deceived, slowest := 0, 0, QueueClient{}
	for _, c := range q.Clients {
		if c.ignored() {
			ignored++
		}
		if c.deceived() {
			deceived++
		}
		if c.Answered > slowest.Answered {
			slowest = c
		}
	}
	all := []string{fmt.Sprintf("The accept queue held %d connections, one more than its backlog. Of the"+
		" other clients, %d got no answer to their SYN. %d appeared connected: the listener ignored"+
		" the last segment of their handshake, which a client cannot see. The listener ignored %d"+
		" segments in all.",
		q.Length, ignored, deceived, q.Drops)}
	if slowest.Answered == 0 {
		return all
	}
	why := "until then its SYN was not sent again"
	if slowest.deceived() {
		why = "until then its request was not sent again"
	}
	all = append(all, fmt.Sprintf("The server began to accept after %s. The last client was answered"+
		" after %s: %s.", seconds(q.Full), seconds(slowest.Answered), why))
	return all
}

func burstTable(all []Burst) Table {
	t := Table{
		Title: fmt.Sprintf("%d clients at once, by backlog", burstSize),
		Head: []string{"backlog", "server away: SYN again", "slowest",
			"accepting: SYN again", "slowest"},
	}
	for i := 0; i+1 < len(all); i += 2 {
		row := []string{fmt.Sprint(all[i].Backlog)}
		for _, m := range all[i : i+2] {
			row = append(row, fmt.Sprint(m.Retried), m.slowest())
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}

func (m Burst) slowest() string {
	if m.Waiting > 0 {
		return fmt.Sprintf("%d not in %.0f s", m.Waiting, m.Window.Seconds())
	}
	return seconds(m.Slowest)
}

// burstSentence compares what was seen with the tutorial's "under 50".
func burstSentence(all []Burst) string {
	enough, hurt := 0, 0
	for _, m := range all {
		switch {
		case m.Away && m.Retried == 0 && (enough == 0 || m.Backlog < enough):
			enough = m.Backlog
		case !m.Away && m.Retried > 0:
			hurt = max(hurt, m.Backlog)
		}
	}
	text := fmt.Sprintf("While the server is away, none of these backlogs was enough for %d clients.", burstSize)
	if enough > 0 {
		text = fmt.Sprintf("While the server is away, the smallest of these backlogs that was"+
			" enough for %[2]d clients is %[1]d.", enough, burstSize)
	}
	if hurt > 0 {
		return text + fmt.Sprintf(" While the server accepts clients as they arrive, the largest"+
			" backlog with which some were ignored is %d.", hurt)
	}
	return text + " While the server accepts clients as they arrive, none was ignored with any of" +
		" these backlogs."
}

// burstPicture has two lines: for a server that is away, and for one that accepts.
func burstPicture(all []Burst) report.Chart {
	away, accepting := report.Series{Name: "server away"}, report.Series{Name: "accepting"}
	for i := 0; i+1 < len(all); i += 2 {
		x := float64(all[i].Backlog)
		away.Points = append(away.Points, report.Point{X: x, Y: float64(all[i].Retried)})
		accepting.Points = append(accepting.Points, report.Point{X: x, Y: float64(all[i+1].Retried)})
	}
	return report.Lines{
		Title:   fmt.Sprintf("%d clients at once: how many had to try again", burstSize),
		Caption: "Clients whose SYN was ignored, by the listener's backlog.",
		X:       report.Axis{Label: "backlog", Log: true},
		Y:       report.Axis{Label: "clients that sent their SYN again"},
		Series:  []report.Series{away, accepting},
	}
}

func counterTable(counters map[string]int64) Table {
	t := Table{
		Title: "Counters of TcpExt in /proc/net/netstat: how much they grew in this network namespace",
		Head:  []string{"counter", "by"},
	}
	for _, name := range slices.Sorted(maps.Keys(counters)) {
		t.Rows = append(t.Rows, []string{name, fmt.Sprint(counters[name])})
	}
	return t
}
