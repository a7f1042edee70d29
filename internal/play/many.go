//go:build linux

package play

import (
	"fmt"
	"strings"
	"time"
)

// Many returns the scenarios of many fast clients, whose times are compared.
func Many() Scenarios {
	return Scenarios{
		slowClient(), crowd(), halfRequests(), slowReader(), burst(), flooder(), stuck(), twoWrites(),
	}
}

// Request in two pieces.
const (
	firstHalf  = "GET / HT"
	secondHalf = "TP/1.0\r\n\r\n"
)

// long is a request as long as a buffer of 1 KiB and 12 bytes more.
var long = Bytes("GET / HTTP/1.0\r\nCookie: " + strings.Repeat("x", longFirst-24) + "xxxxxxxx\r\n\r\n")

const longFirst = 1024

const ms = time.Millisecond

func slowClient() Scenario {
	s := Scenario{
		Name: "slow-client", Title: "one slow client and eight quick ones",
		Question: "Which clients wait for the slow one?",
		Text: "slow sends half of its request, and the rest two seconds later." +
			" Meanwhile eight other clients connect and send their requests at once.",
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
		Name: "crowd", Title: "a hundred clients at once",
		Question: "How many are served at a time, and how long does the last one wait?",
		Text:     "A hundred clients connect. Then all of them send a request at the same moment.",
		Chapter:  "docs/04-level-triggered.md",
		Lasts:    5 * time.Second,
	}
	for i := range 100 {
		s.add(Client{Name: fmt.Sprintf("quick-%d", i+1), Role: Quick},
			Act{Do: Connect}, Act{At: 250 * ms, Do: Send, Bytes: Request},
			Act{At: 250 * ms, Do: ReadAndClose})
	}
	return s.ordered()
}

func halfRequests() Scenario {
	s := Scenario{
		Name: "half-requests", Title: "thirty half requests and three quick clients",
		Question: "What does an unfinished request cost the other clients?",
		Text: "Thirty clients send half of a request, and the rest two seconds later." +
			" Three quick clients connect in between.",
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
		Name: "slow-reader", Title: "two clients that do not read their answer",
		Question: "The answer is sent. Is the server done with the client?",
		Text: "The answer has 114 bytes and always fits into the send buffer, so send never blocks," +
			" however slowly the client reads. But the server waits for the client to close, for at" +
			" most a second (lingering close). Two clients connect first that neither read nor close;" +
			" they begin to read after two and a half seconds, one byte at a time.",
		Chapter: "docs/02-a-loop.md",
		Lasts:   6 * time.Second,
	}
	for i := range 2 {
		s.add(Client{Name: fmt.Sprintf("reader-%d", i+1), Role: Slow, SmallBuffer: true},
			Act{Do: Connect}, Act{Do: Send, Bytes: Request},
			Act{At: 2500 * ms, Do: ReadSlowly, Pause: 2 * ms})
	}
	s.addQuick(6, 200*ms, 25*ms)
	return s.ordered()
}

func burst() Scenario {
	s := Scenario{
		Name: "burst", Title: "two hundred connections in one edge",
		Question: "The kernel reports them once. Are all of them served?",
		Text: "The server is stopped (SIGSTOP) while two hundred clients connect and send their" +
			" requests. When it continues, all of them are in its accept queue: for an edge-triggered" +
			" server, one event.",
		Chapter: "docs/05-edge-triggered.md",
		Lasts:   8 * time.Second,
		Frozen:  400 * ms,
	}
	s.addQuick(200, 0, 0)
	return s.ordered()
}

func flooder() Scenario {
	s := Scenario{
		Name: "flooder", Title: "two clients that never stop sending",
		Question: "Are the other clients served?",
		Text: "Two clients send 4 KiB every two milliseconds, without end and without an empty line." +
			" The server refuses more than 8 KiB (431), and then discards up to a mebibyte, so that" +
			" the refusal arrives. Meanwhile eight quick clients connect.",
		Chapter: "docs/05-edge-triggered.md",
		Lasts:   5 * time.Second,
	}
	for i := range 2 {
		s.add(Client{Name: fmt.Sprintf("flooder-%d", i+1), Role: Flooder},
			Act{Do: Connect}, Act{Do: Read},
			Act{Do: Flood, Bytes: Bytes(strings.Repeat("x", 4096)), Pause: 2 * ms})
	}
	s.addQuick(8, 50*ms, 25*ms)
	return s.ordered()
}

func stuck() Scenario {
	s := Scenario{
		Name: "stuck", Title: "one client that never finishes",
		Question: "Which clients are served at all?",
		Text: "stuck sends half of its request, and then nothing more. Eight other clients connect," +
			" and give up after three seconds.",
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
		Question: "One event, and more bytes than the buffer holds. Are all of them read?",
		Text: "The server is stopped (SIGSTOP) while each of four clients sends a request of 1,036" +
			" bytes in two pieces, 1,024 and 12. When it continues, there is one event for both." +
			" A server that reads 1,024 bytes once for each edge never reads the last 12.",
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

// addQuick adds n clients without a pause, one after each interval.
func (s *Scenario) addQuick(n int, from, each time.Duration) {
	for i := range n {
		at := from + time.Duration(i)*each
		s.add(Client{Name: fmt.Sprintf("quick-%d", i+1), Role: Quick},
			Act{At: at, Do: Connect}, Act{At: at, Do: Send, Bytes: Request},
			Act{At: at, Do: ReadAndClose})
	}
}
