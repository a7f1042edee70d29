//go:build linux

package play

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"lesson/internal/protocol"
)

// An Outcome tells how a client has ended, seen from its own side.
type Outcome string

// The outcomes.
const (
	Open        Outcome = "open"          // it has not ended
	Answered    Outcome = "answered"      // the whole answer, then end of file
	TooLarge    Outcome = "too large"     // refused with 431: its request had no end
	Closed      Outcome = "closed"        // end of file, and no whole answer
	WasReset    Outcome = "reset"         // the server reset the connection
	Unconnected Outcome = "no server"     // no server listens there, or it did not get in
	Left        Outcome = "left"          // it closed, or reset, before an answer had come
	GaveUp      Outcome = "gave up"       // its time ran out while it waited for the answer
	Flooded     Outcome = "never refused" // its flood reached its bound
)

// A Record tells what became of each client. All times are from the beginning, except
// Began; 0 is "not".
type Record struct {
	Began   time.Duration // CLOCK_MONOTONIC, the same in every process
	Lasted  time.Duration
	Clients []Seen // in the order of the scenario
}

// Seen reports what became of one client, on its newest connection.
type Seen struct {
	Client
	Addr      netip.AddrPort // its own
	Connected time.Duration
	Asked     time.Duration // began to send the last of a whole request
	FirstByte time.Duration // of the answer, read
	Ended     time.Duration
	How       Outcome
	Why       string // the error with which it ended
	Gone      bool   // it has closed its end, or reset the connection
	Sent      int64  // bytes
	Got       int64  // bytes
	Answer    string // the first keptAnswer bytes of it
	Acts      []Done // the newest keptActs of it, on any connection
}

// Bounds on what is kept of one client.
const (
	keptAnswer = 4096 // bytes
	keptActs   = 64
)

// Done reports when an act was done, or tried.
type Done struct {
	Do    Verb
	Due   time.Duration // when it was to begin: the Act's At
	At    time.Duration // when it began
	Until time.Duration // when it was done; of a flood or a read, 0 while it continues
	Err   string
}

// Options configure Clients.
type Options struct {
	// Addr returns where the server listens now. An address that is not valid
	// means that no server runs.
	Addr func() netip.AddrPort
	// Clients are those that are known from the beginning. Any other client is
	// added when it connects.
	Clients []Client
	// Patience bounds how long an act may read or flood; 0 is a minute.
	Patience time.Duration
	// MostSent bounds what a client sends on one connection, in bytes; 0 is no bound.
	MostSent int64
	// Changed, unless nil, is called after each change of a client, with all but its
	// Acts. Calls do not overlap. It must not call a method of Clients.
	Changed func(Seen)
}

// Clients act at one server. Each client does its acts one after the other, on a
// goroutine of its own, so that one that has to wait does not delay the others. All
// methods are safe for concurrent use.
type Clients struct {
	options Options
	ctx     context.Context // ends with Close
	cancel  context.CancelFunc
	began   func() time.Duration // the beginning: the first call
	acting  sync.WaitGroup       // acts that are queued, or not done
	working sync.WaitGroup       // goroutines, one for each client

	mu   sync.Mutex // guards what follows, and all of every actor
	all  []*actor
	over bool // nothing new begins, and nothing more is recorded

	closed bool
}

// An actor is one client at work.
type actor struct {
	queue   chan queued // nil before its first act
	seen    Seen
	acts    []*Done
	conn    *Conn // nil: not connected, or not any more
	reading bool
	ended   bool // the server's sending side has ended
	request protocol.Request
	whole   bool // the request has been sent, or is too large
}

// queued is an act, and what to call when it has been done.
type queued struct {
	act  Act
	done func(error)
}

// maxQueued bounds how many acts of one client wait until they are done.
const maxQueued = 64

// DidReset is Seen.Why of a client that has reset its connection.
const DidReset = "it reset the connection"

// Errors of Queue.
var (
	ErrOver      = errors.New("the clients have been closed")
	ErrNotThere  = errors.New("there is no such client")
	ErrTooMany   = fmt.Errorf("%d acts of the client are waiting already", maxQueued)
	errConnected = errors.New("it is connected already")
	errReading   = errors.New("it is reading already")
	errNoConn    = errors.New("it is not connected")
	errNoServer  = errors.New("no server runs there")
)

// NewClients returns clients that have not done anything yet. Their clock begins with
// the first act. Close ends them.
func NewClients(o Options) *Clients {
	if o.Patience == 0 {
		o.Patience = time.Minute
	}
	if o.Changed == nil {
		o.Changed = func(Seen) {}
	}
	c := &Clients{options: o, began: sync.OnceValue(now)}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	for _, client := range o.Clients {
		c.add(client)
	}
	return c
}

func (c *Clients) add(client Client) {
	c.all = append(c.all, &actor{seen: Seen{Client: client, How: Open}})
}

// now returns CLOCK_MONOTONIC.
func now() time.Duration {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &t) // fails only for a clock that does not exist
	return time.Duration(t.Nano())
}

// since returns the time from the beginning, never 0.
func (c *Clients) since() time.Duration { return max(1, now()-c.began()) }

// Play performs a scenario, and returns when all clients have ended, when the scenario
// has lasted as long as it may, or when ctx is done. Clients that still wait then give
// up, but stay connected until Close.
func (c *Clients) Play(ctx context.Context, s Scenario) Record {
	c.began() // first: the record lasts as long as the clients had
	ctx, cancel := context.WithTimeout(ctx, s.Lasts)
	defer cancel()
	NewPlayer(s, func(a Act) { _ = c.Queue(a, nil) }).Run(ctx) // errors are recorded
	ended := make(chan struct{})
	go func() {
		c.acting.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-ctx.Done():
	}
	c.giveUp()
	return c.Record()
}

// Queue lets a client do an act when it has done its earlier ones, whatever its At. It
// then calls done, unless that is nil, with the error, which is also in the Record; a
// flood or a read continues after that. Queue itself returns ErrNotThere for an unknown
// client that does not connect, ErrTooMany, or ErrOver.
func (c *Clients) Queue(a Act, done func(error)) error {
	if done == nil {
		done = func(error) {}
	}
	c.began()
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.IndexFunc(c.all, func(w *actor) bool { return w.seen.Name == a.Client })
	switch {
	case c.over:
		return ErrOver
	case i < 0 && a.Do != Connect:
		return ErrNotThere
	case i < 0:
		i = len(c.all)
		c.add(Client{Name: a.Client, Role: Quick})
	}
	w := c.all[i]
	if w.queue == nil {
		w.queue = make(chan queued, maxQueued)
		c.working.Go(func() { c.work(w) })
	}
	if len(w.queue) == maxQueued {
		return ErrTooMany
	}
	c.acting.Add(1)
	w.queue <- queued{a, done} // it has room: nothing else sends
	return nil
}

// work does the acts of one client, until there are no more to come.
func (c *Clients) work(w *actor) {
	for q := range w.queue {
		c.mu.Lock()
		d := &Done{Do: q.act.Do, Due: q.act.At, At: c.since()}
		w.acts = append(w.acts, d)
		w.acts = w.acts[max(0, len(w.acts)-keptActs):]
		c.mu.Unlock()
		q.done(c.act(w, d, q.act))
	}
}

// act does an act, or begins one that continues in the background.
func (c *Clients) act(w *actor, d *Done, a Act) error {
	background, err := c.try(w, a)
	if background == nil {
		c.finish(d, err)
		return err
	}
	go func() { c.finish(d, background()) }()
	return nil
}

// finish records that an act is done.
func (c *Clients) finish(d *Done, err error) {
	defer c.acting.Done()
	c.mu.Lock()
	defer c.mu.Unlock()
	d.Until = c.since()
	if err != nil {
		d.Err = err.Error()
	}
}

// try does an act, or returns the function that does it: in the background, because it
// may take long.
func (c *Clients) try(w *actor, a Act) (background func() error, err error) {
	switch a.Do {
	case Connect:
		return nil, c.connect(w, a.Reads)
	case Wait:
		return nil, nil
	}
	c.mu.Lock()
	conn, over := w.conn, c.over
	c.mu.Unlock()
	switch {
	case over:
		return nil, ErrOver
	case conn == nil:
		return nil, errNoConn
	}
	switch a.Do {
	case Send:
		err := c.send(w, conn, []byte(a.Bytes))
		if errors.Is(err, ErrReset) {
			c.findsReset(w, conn)
		}
		return nil, err
	case HalfClose:
		return nil, conn.HalfClose()
	case Close:
		return nil, c.leave(w, "", conn.Close)
	case Reset:
		return nil, c.leave(w, DidReset, conn.Reset)
	case Flood:
		return func() error { return c.flood(w, conn, a) }, nil
	case Read, ReadAndClose, ReadSlowly:
		if err := c.beginReading(w); err != nil {
			return nil, err
		}
		return func() error { return c.read(w, conn, a) }, nil
	}
	return nil, fmt.Errorf("a client cannot %q", a.Do)
}

// connect connects a client that is not connected, or whose server has ended the
// connection. If reads is true, it reads from then on.
func (c *Clients) connect(w *actor, reads bool) error {
	c.mu.Lock()
	switch {
	case c.over:
		c.mu.Unlock()
		return ErrOver
	case w.conn != nil && !w.ended:
		c.mu.Unlock()
		return errConnected
	case w.conn != nil:
		_ = w.conn.Close() // it has ended, and nothing of it is of use
	}
	*w = actor{queue: w.queue, acts: w.acts, seen: Seen{Client: w.seen.Client, How: Open}}
	c.options.Changed(w.seen)
	small := w.seen.SmallBuffer
	c.mu.Unlock()

	conn, err := c.dial(small)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		if err == nil {
			_ = conn.Close() // nothing was sent
		}
		return ErrOver
	}
	if err != nil {
		c.end(w, Unconnected, err.Error())
		return err
	}
	w.conn = conn
	w.seen.Addr, w.seen.Connected = conn.LocalAddr(), c.since()
	c.options.Changed(w.seen)
	if reads {
		w.reading = true
		c.acting.Add(1)
		go func() {
			defer c.acting.Done()
			_ = c.read(w, conn, Act{Do: Read}) // how it ended is recorded
		}()
	}
	return nil
}

func (c *Clients) dial(small bool) (*Conn, error) {
	addr := c.options.Addr()
	if !addr.IsValid() {
		return nil, errNoServer
	}
	if small {
		return dial(c.ctx, addr, smallBuffer)
	}
	return dial(c.ctx, addr, nil)
}

func (c *Clients) send(w *actor, conn *Conn, p []byte) error {
	c.mu.Lock()
	sent := w.seen.Sent
	c.mu.Unlock()
	if most := c.options.MostSent; most > 0 && sent+int64(len(p)) > most {
		return fmt.Errorf("a client sends at most %d bytes on a connection", most)
	}
	began := c.since()
	err := conn.Send(p)
	c.mu.Lock()
	defer c.mu.Unlock()
	if w.conn != conn {
		return err
	}
	if err == nil {
		c.sent(w, p, began)
	}
	return err
}

// findsReset records a reset that a client has met in sending, if no read will.
func (c *Clients) findsReset(w *actor, conn *Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if w.conn == conn && w.ended {
		w.seen.How, w.seen.Why = WasReset, ErrReset.Error()
		c.options.Changed(w.seen)
	}
}

// sent records what was sent from that moment on, and whether the request is whole now.
func (c *Clients) sent(w *actor, p []byte, began time.Duration) {
	w.seen.Sent += int64(len(p))
	if !w.whole {
		switch w.request.Add(p) {
		case protocol.Complete:
			w.whole, w.seen.Asked = true, began
		case protocol.Oversize:
			w.whole = true // it will be refused
		}
	}
	c.options.Changed(w.seen)
}

// flood sends until the server takes no more.
func (c *Clients) flood(w *actor, conn *Conn, a Act) error {
	most := a.Most
	if most == 0 {
		most = MostFlooded
	}
	until := c.since() + c.options.Patience
	for sent := int64(0); sent < most && c.since() < until; sent += int64(len(a.Bytes)) {
		if err := c.send(w, conn, []byte(a.Bytes)); err != nil {
			if errors.Is(err, ErrReset) {
				c.floodEnds(w, WasReset)
			}
			return err
		}
		if !c.pause(a.Pause) {
			return ErrOver
		}
	}
	c.floodEnds(w, Flooded)
	return nil
}

// floodEnds records the end of a flood. If the client has read the outcome meanwhile,
// only the time is new.
func (c *Clients) floodEnds(w *actor, how Outcome) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.end(w, how, "")
	if w.seen.How != Left {
		w.seen.Ended = c.since()
	}
}

// pause waits, and returns false when the clients are closed meanwhile.
func (c *Clients) pause(d time.Duration) bool {
	if d == 0 {
		return c.ctx.Err() == nil
	}
	select {
	case <-c.ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// beginReading marks a client as reading. It is called before the goroutine that reads
// starts, so that of two reads always the second is refused.
func (c *Clients) beginReading(w *actor) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case w.reading:
		return errReading
	case w.ended:
		return io.EOF
	}
	w.reading = true
	return nil
}

// read reads to end of file, and closes where the act says so.
func (c *Clients) read(w *actor, conn *Conn, a Act) error {
	bite, pause := 4096, time.Duration(0)
	if a.Do == ReadSlowly {
		bite, pause = 1, a.Pause
	}
	until := time.Now().Add(c.options.Patience)
	for {
		p, err := conn.Some(bite, time.Until(until))
		if over, err := c.heard(w, conn, p, err); over {
			if a.Do != Read && c.detach(w, conn) {
				err = errors.Join(err, conn.Close())
			}
			return err
		}
		if !c.pause(pause) {
			return ErrOver
		}
	}
}

// heard records what a client has read. over is true when it is to read no more, and
// err then says why, unless it has read to end of file.
func (c *Clients) heard(w *actor, conn *Conn, p []byte, end error) (over bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if w.conn != conn || c.over {
		return true, nil // it has left, or been closed
	}
	if w.seen.Got == 0 && len(p) > 0 {
		w.seen.FirstByte = c.since()
	}
	w.seen.Got += int64(len(p))
	w.seen.Answer += string(p[:min(len(p), keptAnswer-len(w.seen.Answer))])
	if end == nil {
		c.options.Changed(w.seen)
		return false, nil
	}
	if errors.Is(end, io.EOF) {
		end = nil
	}
	w.reading, w.ended = false, true
	w.seen.How, w.seen.Ended, w.seen.Why = outcome(w.seen.Answer, end), c.since(), ""
	if end != nil {
		w.seen.Why = end.Error()
	}
	c.options.Changed(w.seen)
	return true, end
}

// detach takes the connection away from a client, and returns false if the client has
// left it already.
func (c *Clients) detach(w *actor, conn *Conn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if w.conn != conn || c.over {
		return false
	}
	w.conn, w.seen.Gone = nil, true
	c.options.Changed(w.seen)
	return true
}

// outcome returns what it means to have read this, and then the given error, or nil
// for end of file.
func outcome(answer string, end error) Outcome {
	switch {
	case answer == string(protocol.TooLarge):
		return TooLarge // a reset may follow: it has not stopped sending
	case errors.Is(end, ErrReset):
		return WasReset
	case errors.Is(end, ErrTimeout):
		return GaveUp
	case answer == string(protocol.Response) && end == nil:
		return Answered
	}
	return Closed
}

// end records an end, unless there is one already. c.mu is held.
func (c *Clients) end(w *actor, how Outcome, why string) {
	if w.seen.How != Open || c.over {
		return
	}
	w.seen.How, w.seen.Ended, w.seen.Why = how, c.since(), why
	c.options.Changed(w.seen)
}

// leave ends the connection from the client's side.
func (c *Clients) leave(w *actor, why string, end func() error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := end()
	w.conn, w.seen.Gone = nil, true
	if w.seen.How == Open {
		w.seen.How, w.seen.Ended = Left, c.since()
	}
	if w.seen.Got == 0 {
		w.seen.Why = why
	}
	c.options.Changed(w.seen)
	return err
}

// giveUp records which clients have asked and not been answered, and lets no client
// begin anything more.
func (c *Clients) giveUp() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, w := range c.all {
		if w.seen.Asked > 0 {
			c.end(w, GaveUp, "")
		}
	}
	c.over = true
}

// Record returns what has become of the clients so far.
func (c *Clients) Record() Record {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := Record{Began: c.began(), Lasted: c.since()}
	for _, w := range c.all {
		seen := w.seen
		for _, d := range w.acts {
			seen.Acts = append(seen.Acts, *d)
		}
		r.Clients = append(r.Clients, seen)
	}
	return r
}

// Close closes all connections, and returns when no client does anything more.
func (c *Clients) Close() {
	c.cancel()
	c.mu.Lock()
	closed := c.closed
	c.over, c.closed = true, true
	for _, w := range c.all {
		if w.conn != nil {
			_ = w.conn.Close() // nothing is left to lose
			w.conn = nil
		}
		if w.queue != nil && !closed {
			close(w.queue)
		}
	}
	c.mu.Unlock()
	c.working.Wait()
	c.acting.Wait()
}
