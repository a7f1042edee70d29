//go:build linux

package tour

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"sync"
	"time"

	"lesson/internal/play"
	"lesson/internal/protocol"
	"lesson/internal/words"
)

var clientName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9 _-]{0,19}$`)

// outsideName is what peers.nameOf calls clients from outside.
var outsideName = regexp.MustCompile(`^out[0-9]+$`)

// byHand returns an act without what only a scenario sets, or the reason why a page may
// not ask for it. A flood stays within what a client may send on a connection.
func byHand(a play.Act) (play.Act, error) {
	switch {
	case !clientName.MatchString(a.Client) || outsideName.MatchString(a.Client):
		return a, badRequest("no client %q", a.Client).hint("a name has 1 to 20 letters and digits")
	case !slices.Contains(play.Verbs(), a.Do):
		return a, badRequest("a client cannot %q", a.Do).
			hint("it can connect, send, flood, read, half-close, close, reset")
	case a.Do == play.Flood && len(a.Bytes) == 0:
		return a, badRequest("a flood of nothing").hint("say the bytes that are sent again and again")
	case len(a.Bytes) > maxBytes:
		return a, badRequest("%d bytes at once", len(a.Bytes)).
			hint("a client sends at most %d", maxBytes)
	}
	act := play.Act{Client: a.Client, Do: a.Do, Bytes: a.Bytes, Reads: a.Reads}
	if a.Do == play.Flood {
		act.Most = maxSent - 4*maxBytes // it has sent something before
	}
	return act, nil
}

// An actEvent reports that a client was asked to act.
type actEvent struct {
	header
	Act            play.Act `json:"act"`
	words.Sentence          // the act
	By             string   `json:"by"` // "page" or "scenario"
}

// A clientEvent reports the state of a client, seen from its own end of one connection.
type clientEvent struct {
	header
	Server string `json:"server"`
	Client string `json:"client"`
	Peer   string `json:"peer,omitempty"` // its address, by which calls name it
	State  string `json:"state"`
	Sent   int64  `json:"sent"`
	Got    string `json:"got"`
	Note   string `json:"note,omitempty"`
}

// noAnswer is the note of a client that got nothing.
const noAnswer = "the server closed, without an answer"

// newClientEvent returns the event that reports a client to a page.
func newClientEvent(server string, seen play.Seen) *clientEvent {
	e := &clientEvent{
		Server: server, Client: seen.Name, Sent: seen.Sent, Got: seen.Answer, Note: seen.Why,
	}
	if seen.Addr.IsValid() {
		e.Peer = seen.Addr.String()
	}
	switch {
	case seen.Gone:
		e.State = "closed"
	case seen.How == play.Unconnected:
		e.State = "refused"
	case seen.How == play.WasReset:
		e.State = "reset"
	case seen.Got > 0 && seen.How != play.Open, seen.Answer == string(protocol.Response):
		e.State = "answered"
	case seen.How == play.Closed && seen.Why == "":
		e.State, e.Note = "closed", noAnswer
	case seen.How != play.Open:
		e.State = "closed"
	case seen.Connected == 0:
		e.State = "connecting"
	case seen.Sent > 0 || seen.Got > 0:
		e.State = "waiting"
	default:
		e.State = "connected"
	}
	return e
}

// tell tells the pages how a client is.
func (e *clientEvent) tell(j *journal) { j.tell("client/"+e.Server+"/"+e.Client, "client", e) }

// waitForAnswer bounds how long a client waits. Sessions end sooner.
const waitForAnswer = 24 * time.Hour

// clientsOf returns the clients' side of a server.
func (s *session) clientsOf(c *column) *play.Clients {
	return play.NewClients(play.Options{
		Addr: c.address, Patience: waitForAnswer, MostSent: maxSent,
		Changed: func(seen play.Seen) {
			if seen.Addr.IsValid() {
				s.peers.meet(seen.Addr, seen.Name)
				c.meet(seen.Name, seen.Addr, seen.How == play.WasReset)
			}
			newClientEvent(c.id, seen).tell(s.journal)
		},
	})
}

// act lets a client act on all servers that are shown. It returns when it has, or
// has not within actWithin.
func (s *session) act(a play.Act, by string) error {
	done := make(chan error, maxColumns)
	acting, err := s.hand(a, by, func(err error) { done <- err })
	if err != nil {
		return err
	}
	late := time.After(actWithin)
	for range acting {
		select {
		case <-done: // the client's events tell what came of it
		case <-late:
			s.lookSoon()
			return nil
		}
	}
	s.lookSoon()
	return nil
}

// hand hands an act to the client at each server, and returns how many there are.
func (s *session) hand(a play.Act, by string, done func(error)) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.over:
		return 0, gone("the session has ended")
	case !s.clients[a.Client] && a.Do != play.Connect:
		return 0, badRequest("%s is not connected", a.Client).hint("it connects first")
	case !s.clients[a.Client] && len(s.clients) >= maxClients:
		return 0, tooMany("there are %d clients already", maxClients).
			hint("use one of them again")
	}
	size := len(a.Bytes) * len(s.columns)
	if s.waiting+size > maxWaiting {
		return 0, tooMany("acts with %d bytes are waiting already", s.waiting).
			hint("let a server read, or remove one")
	}
	s.clients[a.Client] = true
	s.journal.tell("", "act", &actEvent{Act: a, Sentence: a.Sentence(), By: by})
	acting := 0
	for _, c := range s.columns {
		s.waiting += len(a.Bytes)
		over := func(err error) {
			s.mu.Lock()
			s.waiting -= len(a.Bytes)
			s.mu.Unlock()
			done(err)
		}
		err := c.clients.Queue(a, over)
		if err != nil {
			s.waiting -= len(a.Bytes)
		}
		switch {
		case err == nil:
			acting++
		case errors.Is(err, play.ErrTooMany):
			return acting, tooMany("%s: %v", a.Client, err)
		}
		// Else it has not connected here: the server came later.
	}
	return acting, nil
}

// dismiss closes all connections of the clients, for a fresh start.
func (s *session) dismiss() {
	before := map[string]*play.Clients{}
	s.mu.Lock()
	s.clients = map[string]bool{}
	for _, c := range s.columns {
		before[c.id] = c.clients
		c.clients = s.clientsOf(c)
	}
	s.mu.Unlock()
	for id, clients := range before {
		clients.Close()
		for _, seen := range clients.Record().Clients {
			seen.Gone, seen.Why = true, ""
			newClientEvent(id, seen).tell(s.journal)
		}
	}
}

// peers are the clients that have been seen, by address. The zero value is ready.
type peers struct {
	mu      sync.Mutex
	names   map[netip.AddrPort]string
	order   []netip.AddrPort // the oldest first
	outside int              // how many clients from outside have a name
}

// meet notes the client with an address. Of many, the oldest are forgotten.
func (p *peers) meet(addr netip.AddrPort, name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.add(addr, name)
}

// nameOf returns the client with an address. One that is not the session's is from
// outside, and gets a name: "out1".
func (p *peers) nameOf(addr netip.AddrPort) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, known := p.names[addr]; !known {
		p.outside++
		p.add(addr, fmt.Sprintf("out%d", p.outside))
	}
	return p.names[addr]
}

func (p *peers) add(addr netip.AddrPort, name string) {
	const most = 4096 // ports that may still be seen in the kernel
	if p.names == nil {
		p.names = map[netip.AddrPort]string{}
	}
	if _, known := p.names[addr]; !known {
		p.order = append(p.order, addr)
	}
	p.names[addr] = name
	if len(p.order) > most {
		delete(p.names, p.order[0])
		p.order = p.order[1:]
	}
}
