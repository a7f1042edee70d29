//go:build linux

// Package play has the clients' side: a connection and what can be done with it (Conn),
// what several clients do, and when, as data (Scenario), and what performs that against
// a server and records what became of each client (Player).
//
// It knows nothing of servers, except that a request ends with an empty line.
package play

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// A Scenario is one play. It is data: whoever performs it may also do so one act at
// a time.
type Scenario struct {
	Name     string        `json:"name"`
	Title    string        `json:"title"`    // in a few words
	Question string        `json:"question"` // what to look for
	Text     string        `json:"text"`     // what the clients do, in a sentence or two
	Chapter  string        `json:"chapter"`  // its file in the repository
	Clients  []Client      `json:"clients"`  // in the order of rows
	Acts     []Act         `json:"acts"`     // ordered by At
	Lasts    time.Duration `json:"lasts"`    // then everybody gives up

	// Frozen is how long the server should be stopped, by SIGSTOP, from the
	// beginning, so that it finds all that came meanwhile at once. 0 is not at
	// all. A Player cannot do that: it is for whoever started the server.
	Frozen time.Duration `json:"frozen,omitempty"`
}

// A Client is one who acts.
type Client struct {
	Name string `json:"name"`
	Role string `json:"role"` // one of the roles below
	// SmallBuffer is for who reads slowly: see DialSmall.
	SmallBuffer bool `json:"small_buffer,omitempty"`
}

// The roles. Clients of one role are alike.
const (
	Slow    = "slow"    // lets the server wait, and comes to an end
	Stuck   = "stuck"   // lets the server wait for ever
	Quick   = "quick"   // connects, asks and reads, without a pause
	Flooder = "flooder" // sends for as long as anybody takes it
)

// An Act is what one client does at one moment.
type Act struct {
	At     time.Duration `json:"at"` // from the beginning
	Client string        `json:"client"`
	Do     Verb          `json:"do"`
	Bytes  string        `json:"bytes,omitempty"` // what to send, or to flood with
	// Most bounds a flood, in bytes; 0 is MostFlooded.
	Most int64 `json:"most,omitempty"`
	// Pause is before each byte of a read-slowly, after each Bytes of a flood.
	Pause time.Duration `json:"pause,omitempty"`
}

// A Verb is what a client can do. None of them waits for the server, but for room
// in the send buffer: those that may take long go on in the background.
type Verb string

// The verbs.
const (
	Connect   Verb = "connect"
	Send      Verb = "send"       // Bytes, in a segment of its own
	Flood     Verb = "flood"      // Bytes again and again, until refused, Most, close or the end
	HalfClose Verb = "half-close" // says that nothing more will be sent
	Close     Verb = "close"
	Reset     Verb = "reset"
	Read      Verb = "read" // to end of file
	// ReadAndClose is Read, and Close when that has come: what curl does.
	ReadAndClose Verb = "read-and-close"
	ReadSlowly   Verb = "read-slowly" // to end of file, a byte at a time, and close
	Wait         Verb = "wait"        // nothing: the client is there, at least until now
)

// MostFlooded bounds a flood whose Act does not, in bytes.
const MostFlooded = 64 << 20

// Names is the names of all scenarios.
func Names() []string {
	var names []string
	for _, s := range All() {
		names = append(names, s.Name)
	}
	return names
}

// Find is the scenario of that name.
func Find(name string) (Scenario, error) {
	for _, s := range All() {
		if s.Name == name {
			return s, nil
		}
	}
	return Scenario{}, fmt.Errorf("no scenario %q; there are %s", name, strings.Join(Names(), ", "))
}

// Client is the client of that name.
func (s Scenario) Client(name string) (Client, bool) {
	for _, c := range s.Clients {
		if c.Name == name {
			return c, true
		}
	}
	return Client{}, false
}

// ActsOf is what one client does, in order.
func (s Scenario) ActsOf(client string) []Act {
	var acts []Act
	for _, a := range s.Acts {
		if a.Client == client {
			acts = append(acts, a)
		}
	}
	return acts
}

// A request in one piece, and in two.
const (
	request    = "GET / HTTP/1.0\r\n\r\n"
	firstHalf  = "GET / HT"
	secondHalf = "TP/1.0\r\n\r\n"
)

// long is a request as long as a buffer of 1 KiB and 12 bytes more.
var long = "GET / HTTP/1.0\r\nCookie: " + strings.Repeat("x", longFirst-24) + "xxxxxxxx\r\n\r\n"

const longFirst = 1024

const ms = time.Millisecond

// All is every scenario.
func All() []Scenario {
	return []Scenario{
		slowClient(), crowd(), halfRequests(), slowReader(), burst(), flooder(), stuck(), twoWrites(),
	}
}

func slowClient() Scenario {
	s := Scenario{
		Name: "slow-client", Title: "one is slow, eight are quick",
		Question: "Who waits for the slow one?",
		Text: "slow sends half of its request and the rest two seconds later." +
			" Eight others come meanwhile and ask at once.",
		Chapter: "docs/02-a-loop.md",
		Lasts:   5 * time.Second,
	}
	s.add(Client{Name: "slow", Role: Slow},
		Act{Do: Connect}, Act{Do: Send, Bytes: firstHalf},
		Act{At: 2 * time.Second, Do: Send, Bytes: secondHalf},
		Act{At: 2 * time.Second, Do: ReadAndClose})
	s.addQuick(8, 100*ms, 25*ms)
	return s.ordered()
}

func crowd() Scenario {
	s := Scenario{
		Name: "crowd", Title: "a hundred at once",
		Question: "How many at a time, and how long does the last one wait?",
		Text:     "A hundred clients connect. Then all of them ask, at the same moment.",
		Chapter:  "docs/04-level-triggered.md",
		Lasts:    5 * time.Second,
	}
	for i := range 100 {
		s.add(Client{Name: fmt.Sprintf("quick-%d", i+1), Role: Quick},
			Act{Do: Connect}, Act{At: 250 * ms, Do: Send, Bytes: request},
			Act{At: 250 * ms, Do: ReadAndClose})
	}
	return s.ordered()
}

func halfRequests() Scenario {
	s := Scenario{
		Name: "half-requests", Title: "thirty halves, and three who are in a hurry",
		Question: "What does a request that is not finished cost the others?",
		Text: "Thirty clients send half of a request and the rest two seconds later." +
			" Three quick ones come in between.",
		Chapter: "docs/03-a-goroutine-each.md",
		Lasts:   5 * time.Second,
	}
	for i := range 30 {
		s.add(Client{Name: fmt.Sprintf("half-%d", i+1), Role: Slow},
			Act{Do: Connect}, Act{Do: Send, Bytes: firstHalf},
			Act{At: 2 * time.Second, Do: Send, Bytes: secondHalf},
			Act{At: 2 * time.Second, Do: ReadAndClose})
	}
	s.addQuick(3, 300*ms, 50*ms)
	return s.ordered()
}

func slowReader() Scenario {
	s := Scenario{
		Name: "slow-reader", Title: "two who do not read their answer",
		Question: "The answer is on its way. Is the server done with the client?",
		Text: "The answer has 114 bytes and always fits into the send buffer, so nobody can read so" +
			" slowly that send stands still. But a client that neither reads nor closes is not over" +
			" for the server: it waits for the end, a second at the most (lingering close). Two such" +
			" clients come first, and begin to read after two and a half seconds, a byte at a time.",
		Chapter: "docs/02-a-loop.md",
		Lasts:   6 * time.Second,
	}
	for i := range 2 {
		s.add(Client{Name: fmt.Sprintf("reader-%d", i+1), Role: Slow, SmallBuffer: true},
			Act{Do: Connect}, Act{Do: Send, Bytes: request},
			Act{At: 2500 * ms, Do: ReadSlowly, Pause: 2 * ms})
	}
	s.addQuick(6, 200*ms, 25*ms)
	return s.ordered()
}

func burst() Scenario {
	s := Scenario{
		Name: "burst", Title: "two hundred connections in one edge",
		Question: "The kernel tells of them once. Are all of them served?",
		Text: "The server is stopped (SIGSTOP) while two hundred clients connect and ask. When it goes" +
			" on, it finds all of them in its accept queue: for an edge-triggered server, one event.",
		Chapter: "docs/05-edge-triggered.md",
		Lasts:   8 * time.Second,
		Frozen:  400 * ms,
	}
	s.addQuick(200, 0, 0)
	return s.ordered()
}

func flooder() Scenario {
	s := Scenario{
		Name: "flooder", Title: "two who never stop sending",
		Question: "Does anybody else get a turn?",
		Text: "Two clients send 4 KiB every two milliseconds, without end and without an empty line." +
			" The server refuses what is over 8 KiB (431), and takes up to a mebibyte more, so that the" +
			" refusal arrives. Eight quick ones come meanwhile.",
		Chapter: "docs/05-edge-triggered.md",
		Lasts:   5 * time.Second,
	}
	for i := range 2 {
		s.add(Client{Name: fmt.Sprintf("flooder-%d", i+1), Role: Flooder},
			Act{Do: Connect}, Act{Do: Read},
			Act{Do: Flood, Bytes: strings.Repeat("x", 4096), Pause: 2 * ms})
	}
	s.addQuick(8, 50*ms, 25*ms)
	return s.ordered()
}

func stuck() Scenario {
	s := Scenario{
		Name: "stuck", Title: "one never finishes",
		Question: "Who is served at all?",
		Text: "stuck sends half of its request and then nothing more. Eight others come, and give" +
			" up after three seconds.",
		Chapter: "docs/02-a-loop.md",
		Lasts:   3 * time.Second,
	}
	s.add(Client{Name: "stuck", Role: Stuck},
		Act{Do: Connect}, Act{Do: Send, Bytes: firstHalf}, Act{At: 3 * time.Second, Do: Wait})
	s.addQuick(8, 100*ms, 25*ms)
	return s.ordered()
}

func twoWrites() Scenario {
	s := Scenario{
		Name: "two-writes-one-edge", Title: "two pieces that arrive together",
		Question: "One event, more bytes than a buffer holds. Are all of them read?",
		Text: "The server is stopped (SIGSTOP) while each of four clients sends a request of 1,036" +
			" bytes in two pieces, 1,024 and 12. When it goes on, there is one event for both. Who" +
			" reads 1,024 bytes once per event, edge-triggered, is never told of the last 12.",
		Chapter: "docs/05-edge-triggered.md",
		Lasts:   3 * time.Second,
		Frozen:  200 * ms,
	}
	for i := range 4 {
		s.add(Client{Name: fmt.Sprintf("two-%d", i+1), Role: Quick},
			Act{Do: Connect}, Act{Do: Send, Bytes: long[:longFirst]},
			Act{Do: Send, Bytes: long[longFirst:]}, Act{Do: ReadAndClose})
	}
	return s.ordered()
}

// add adds a client and its acts.
func (s *Scenario) add(c Client, acts ...Act) {
	s.Clients = append(s.Clients, c)
	for _, a := range acts {
		a.Client = c.Name
		s.Acts = append(s.Acts, a)
	}
}

// addQuick adds n clients without a pause, one each so often.
func (s *Scenario) addQuick(n int, from, each time.Duration) {
	for i := range n {
		at := from + time.Duration(i)*each
		s.add(Client{Name: fmt.Sprintf("quick-%d", i+1), Role: Quick},
			Act{At: at, Do: Connect}, Act{At: at, Do: Send, Bytes: request},
			Act{At: at, Do: ReadAndClose})
	}
}

// ordered is the scenario with its acts in the order of time; each client's own
// stay in theirs.
func (s Scenario) ordered() Scenario {
	slices.SortStableFunc(s.Acts, func(a, b Act) int { return int(a.At - b.At) })
	return s
}
