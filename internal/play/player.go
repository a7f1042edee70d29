//go:build linux

package play

import (
	"bytes"
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

// An Outcome is how a client has ended, seen from its own side.
type Outcome string

// The outcomes.
const (
	Open        Outcome = "open"         // it has not ended
	Answered    Outcome = "answered"     // the whole answer, then end of file
	TooLarge    Outcome = "too large"    // refused with 431: its request had no end
	Closed      Outcome = "closed"       // end of file, and no whole answer
	WasReset    Outcome = "reset"        // the server reset the connection
	Unconnected Outcome = "no server"    // nobody listens there, or it did not get in
	Left        Outcome = "left"         // it closed, or reset, before an answer had come
	GaveUp      Outcome = "gave up"      // its time ran out while it waited for the answer
	Flooded     Outcome = "was let send" // its flood came to its bound
)

// A Record is what became of everybody. All times are from the beginning of the
// play; 0 is "not".
type Record struct {
	Scenario string        `json:"scenario"`
	Began    time.Duration `json:"began"` // CLOCK_MONOTONIC, the same in every process
	Lasted   time.Duration `json:"lasted"`
	Clients  []Seen        `json:"clients"` // in the order of the scenario
}

// Seen is one client.
type Seen struct {
	Client
	Addr      netip.AddrPort `json:"addr,omitzero"` // its own
	Connected time.Duration  `json:"connected,omitempty"`
	Asked     time.Duration  `json:"asked,omitempty"`      // began to send the last of a whole request
	FirstByte time.Duration  `json:"first_byte,omitempty"` // of the answer, read
	Ended     time.Duration  `json:"ended,omitempty"`
	How       Outcome        `json:"how"`
	Sent      int64          `json:"sent"` // bytes
	Got       int            `json:"got"`  // bytes
	Answer    string         `json:"answer,omitempty"`
	Acts      []Done         `json:"acts"`
}

// keptAnswer is how much of an answer is kept, in bytes.
const keptAnswer = 256

// Done is an act that has been done, or tried.
type Done struct {
	Do    Verb          `json:"do"`
	Due   time.Duration `json:"due"`   // when it was to begin: the Act's At
	At    time.Duration `json:"at"`    // when it began
	Until time.Duration `json:"until"` // when it was done; of a flood or a read, 0 while it goes on
	Err   string        `json:"err,omitempty"`
}

// A Player performs acts against one server. It is safe for concurrent use; acts
// of one client are done in the order of the calls.
type Player struct {
	scenario Scenario
	addr     netip.AddrPort

	began      func() time.Duration // the beginning: the first call
	background sync.WaitGroup

	mu      sync.Mutex // what follows, and the Seen and conn of every actor
	actors  []*actor
	closing bool
}

// An actor is one client on stage.
type actor struct {
	turn    sync.Mutex // one act at a time
	seen    Seen
	conn    *Conn // nil: not connected, or not any more
	request protocol.Request
	whole   bool // the request has been sent, or is too large
}

// NewPlayer is a player of s against the server at addr. Its clock begins with the
// first act. It must be ended with Close, or be played.
func NewPlayer(s Scenario, addr netip.AddrPort) *Player {
	p := &Player{scenario: s, addr: addr, began: sync.OnceValue(now)}
	for _, c := range s.Clients {
		p.actors = append(p.actors, &actor{seen: Seen{Client: c, How: Open}})
	}
	return p
}

// now is CLOCK_MONOTONIC.
func now() time.Duration {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &t) // fails only for clocks that are not there
	return time.Duration(t.Nano())
}

// since is the time from the beginning, never 0.
func (p *Player) since() time.Duration { return max(1, now()-p.began()) }

// Play performs the whole scenario, and returns when all clients have ended, when
// it has lasted as long as it may, or when ctx is done. Then everybody who is still
// there gives up, and is there until Close.
func (p *Player) Play(ctx context.Context) Record {
	ctx, cancel := context.WithTimeout(ctx, p.scenario.Lasts)
	defer cancel()
	p.began()
	var acting sync.WaitGroup
	for _, c := range p.scenario.Clients {
		acting.Go(func() { p.playClient(ctx, p.scenario.ActsOf(c.Name)) })
	}
	ended := make(chan struct{})
	go func() {
		acting.Wait()
		p.background.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-ctx.Done():
	}
	p.giveUp()
	return p.Record()
}

// playClient does what one client does, each at its time.
func (p *Player) playClient(ctx context.Context, acts []Act) {
	for _, a := range acts {
		select {
		case <-ctx.Done():
			return
		case <-time.After(a.At - p.since()):
		}
		if err := p.Do(a); err != nil && a.Do == Connect {
			return // noted by Do
		}
	}
}

// Do does one act, now, whatever its At. The error is also in the Record. A client
// that the scenario does not name is added when it connects.
func (p *Player) Do(a Act) error {
	p.began()
	c, err := p.actor(a)
	if err != nil {
		return err
	}
	c.turn.Lock()
	defer c.turn.Unlock()
	p.mu.Lock()
	done := len(c.seen.Acts)
	c.seen.Acts = append(c.seen.Acts, Done{Do: a.Do, Due: a.At, At: p.since()})
	p.mu.Unlock()

	background, err := p.act(c, done, a)
	if !background {
		p.finish(c, done, err)
	}
	return err
}

// actor finds who is to act.
func (p *Player) actor(a Act) (*actor, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.actors {
		if c.seen.Name == a.Client {
			return c, nil
		}
	}
	if a.Do != Connect {
		return nil, fmt.Errorf("no client %q is connected", a.Client)
	}
	c := &actor{seen: Seen{Client: Client{Name: a.Client, Role: Quick}, How: Open}}
	p.actors = append(p.actors, c)
	return c, nil
}

// finish notes that the act of that number is over.
func (p *Player) finish(c *actor, done int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c.seen.Acts[done].Until = p.since()
	if err != nil {
		c.seen.Acts[done].Err = err.Error()
	}
}

// act does it. background says that it goes on, and will be finished later.
func (p *Player) act(c *actor, done int, a Act) (background bool, err error) {
	if a.Do == Connect {
		return false, p.connect(c)
	}
	if a.Do == Wait {
		return false, nil
	}
	p.mu.Lock()
	conn := c.conn
	p.mu.Unlock()
	if conn == nil {
		return false, fmt.Errorf("%s is not connected", a.Client)
	}
	switch a.Do {
	case Send:
		return false, p.send(c, conn, a.Bytes)
	case HalfClose:
		return false, conn.HalfClose()
	case Close:
		return false, p.leave(c, conn.Close)
	case Reset:
		return false, p.leave(c, conn.Reset)
	case Flood:
		p.inBackground(c, done, func() error { return p.flood(c, conn, a) })
	case Read, ReadAndClose, ReadSlowly:
		p.inBackground(c, done, func() error { return p.read(c, conn, a) })
	default:
		return false, fmt.Errorf("nobody can %q", a.Do)
	}
	return true, nil
}

func (p *Player) inBackground(c *actor, done int, do func() error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closing {
		return // Close has waited for the others already
	}
	p.background.Go(func() { p.finish(c, done, do()) })
}

func (p *Player) connect(c *actor) error {
	p.mu.Lock()
	before, closing := c.conn, p.closing
	p.mu.Unlock()
	if before != nil || closing {
		return fmt.Errorf("%s is connected already, or the play is over", c.seen.Name)
	}
	dial := Dial
	if c.seen.SmallBuffer {
		dial = DialSmall
	}
	conn, err := dial(p.addr)
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		p.ends(c, Unconnected)
		return err
	}
	if p.closing { // meanwhile
		return errors.Join(errors.New("the play is over"), conn.Close())
	}
	// A second connection of the same client is a new beginning.
	c.seen = Seen{Client: c.seen.Client, How: Open, Acts: c.seen.Acts}
	c.request, c.whole = protocol.Request{}, false
	c.conn = conn
	c.seen.Addr, c.seen.Connected = conn.LocalAddr(), p.since()
	return nil
}

func (p *Player) send(c *actor, conn *Conn, text string) error {
	began := p.since()
	err := conn.Send([]byte(text))
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		return err // whoever reads will find out how it ends
	}
	p.noteSent(c, []byte(text), began)
	return nil
}

// noteSent notes what was sent from that moment on, and whether the request is whole
// now.
func (p *Player) noteSent(c *actor, sent []byte, began time.Duration) {
	c.seen.Sent += int64(len(sent))
	if c.whole {
		return
	}
	switch c.request.Add(sent) {
	case protocol.Complete:
		c.whole, c.seen.Asked = true, began
	case protocol.Oversize:
		c.whole = true // it will be refused
	}
}

// flood sends until the server takes no more.
func (p *Player) flood(c *actor, conn *Conn, a Act) error {
	most := a.Most
	if most == 0 {
		most = MostFlooded
	}
	chunk := []byte(a.Bytes)
	until := p.since() + p.patience()
	for sent := int64(0); sent < most && p.since() < until; sent += int64(len(chunk)) {
		began := p.since()
		if err := conn.Send(chunk); err != nil {
			if errors.Is(err, ErrReset) {
				p.floodEnds(c, WasReset)
			}
			return err
		}
		p.mu.Lock()
		p.noteSent(c, chunk, began)
		p.mu.Unlock()
		time.Sleep(a.Pause)
	}
	p.floodEnds(c, Flooded)
	return nil
}

// floodEnds notes the end of a flood. Whoever reads meanwhile knows better how,
// but not when.
func (p *Player) floodEnds(c *actor, how Outcome) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ends(c, how)
	if c.seen.How != Left {
		c.seen.Ended = p.since()
	}
}

// patience is how long an act in the background may last.
func (p *Player) patience() time.Duration {
	if p.scenario.Lasts > 0 {
		return p.scenario.Lasts
	}
	return time.Minute
}

// read reads to end of file, and closes where that is asked for.
func (p *Player) read(c *actor, conn *Conn, a Act) error {
	answer, err := conn.Read(1, p.patience())
	if len(answer) > 0 {
		p.mu.Lock()
		c.seen.FirstByte = p.since()
		p.mu.Unlock()
		var rest []byte
		if a.Do == ReadSlowly {
			rest, err = conn.ReadSlowly(p.patience(), a.Pause)
		} else {
			rest, err = conn.ReadAll(p.patience())
		}
		answer = append(answer, rest...)
	}
	how, err := outcome(answer, err)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closing {
		return err // it has been closed by us
	}
	c.seen.Got = len(answer)
	c.seen.Answer = string(answer[:min(len(answer), keptAnswer)])
	if c.seen.How != Left { // what it reads says more than what it could not send
		c.seen.How, c.seen.Ended = how, p.since()
	}
	if a.Do == Read || c.conn != conn {
		return err
	}
	c.conn = nil
	return errors.Join(err, conn.Close())
}

// outcome is what it means to have read this, and then that error or, nil, end of
// file.
func outcome(answer []byte, err error) (Outcome, error) {
	switch {
	case bytes.Equal(answer, protocol.TooLarge):
		return TooLarge, err // a reset may follow: it has not stopped sending
	case errors.Is(err, ErrReset):
		return WasReset, err
	case errors.Is(err, ErrTimeout):
		return GaveUp, err
	case bytes.Equal(answer, protocol.Response) && err == nil:
		return Answered, nil
	case errors.Is(err, io.EOF):
		return Closed, nil
	}
	return Closed, err
}

// ends notes an end, unless there is one already. p.mu is held.
func (p *Player) ends(c *actor, how Outcome) {
	if c.seen.How == Open {
		c.seen.How, c.seen.Ended = how, p.since()
	}
}

// leave ends the connection from the client's side.
func (p *Player) leave(c *actor, end func() error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ends(c, Left)
	c.conn = nil
	return end()
}

// giveUp notes who has asked and not been answered, and lets nobody begin anything
// more.
func (p *Player) giveUp() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closing = true
	for _, c := range p.actors {
		if c.seen.Asked > 0 {
			p.ends(c, GaveUp)
		}
	}
}

// Record is what has become of everybody so far.
func (p *Player) Record() Record {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := Record{Scenario: p.scenario.Name, Began: p.began(), Lasted: p.since()}
	for _, c := range p.actors {
		seen := c.seen
		seen.Acts = slices.Clone(seen.Acts)
		r.Clients = append(r.Clients, seen)
	}
	return r
}

// Close ends all connections and everything that goes on.
func (p *Player) Close() {
	p.mu.Lock()
	p.closing = true
	for _, c := range p.actors {
		if c.conn != nil {
			_ = c.conn.Close() // there is nothing left to lose
			c.conn = nil
		}
	}
	p.mu.Unlock()
	p.background.Wait()
}
