//go:build linux

package explore

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// An actKind is what a client does.
type actKind uint8

const (
	connects actKind = iota
	sends
	halfCloses
	closes
	resets
	reads  // what has arrived, up to size bytes; until the end, if size is 0
	floods // sends again whenever the server has read, until the others have gone
)

type act struct {
	kind  actKind
	bytes []byte
	size  int
	whole bool   // the network does not cut it
	after string // not before that client has connected
}

// A Client is one client of a scenario: its acts are done in order, each at any time
// after the one before.
type Client struct {
	Name string
	acts []act

	stops bool // before its last act: what it gets is not judged
}

// A Scenario is a few clients. Which of them acts when is not part of it: that is what
// is explored.
type Scenario struct {
	Name    string
	Asks    string // what is explored, as a question
	Clients []Client

	// SideBySide says that a server which serves one client at a time cannot pass.
	SideBySide bool

	Descriptors  int // of the server's process; 0 for plenty
	SendBuffer   int // of each connection; 0 for plenty
	ClientBuffer int
	Plain        bool // only its plain order is tried: one takes long
	Unbounded    bool // a client sends without end, and must be refused
	Queue        bool // no client may find the accept queue full
}

const request = "GET / HTTP/1.0\r\n\r\n"

// asks is a client that sends a whole request and reads to the end.
func asks(name string) Client {
	return Client{Name: name, acts: []act{{kind: connects}, send(request), {kind: reads}, {kind: closes}}}
}

func send(text string) act { return act{kind: sends, bytes: []byte(text)} }

// Scenarios returns all of them, the simplest first.
func Scenarios() []Scenario {
	half := send(request[:len(request)/2])
	rest := send(request[len(request)/2:])
	connect, read, leave := act{kind: connects}, act{kind: reads}, act{kind: closes}
	reset, end := act{kind: resets}, act{kind: halfCloses}
	a := func(acts ...act) Client { return Client{Name: "a", acts: acts} }
	// 3 KiB of headers. It may be cut where a buffer of 1 KiB is full.
	headed := send("GET /" + strings.Repeat("y", 46) + " HTTP/1.0\r\n" +
		strings.Repeat("X: "+strings.Repeat("x", 59)+"\r\n", 47) + "\r\n")
	long := act{kind: sends, bytes: bytes.Repeat([]byte("long "), 2000), whole: true}

	return []Scenario{
		{Name: "one", Asks: "Is one client answered, wherever its request is cut?",
			Clients: []Client{asks("a")}},
		{Name: "two-segments", Asks: "Is a client answered whose request comes in two segments?",
			Clients: []Client{a(connect, half, rest, read, leave)}},
		{Name: "leaves", Asks: "Does a client that leaves at once do harm?",
			Clients: []Client{a(connect, leave)}},
		{Name: "half-request", Asks: "Does a client that leaves in the middle of its request do harm?",
			Clients: []Client{a(connect, half, leave)}},
		{Name: "reset", Asks: "Does a reset in the middle of a request do harm?",
			Clients: []Client{a(connect, half, reset)}},
		{Name: "reset-after-request", Asks: "Does a reset before the answer do harm?",
			Clients: []Client{a(connect, send(request), reset)}},
		{Name: "half-close", Asks: "Is a client answered that sends its FIN with its request?",
			Clients: []Client{a(connect, send(request), end, read, leave)}},
		{Name: "body", Asks: "Does the answer arrive if the client sends more than its request?",
			Clients: []Client{a(connect, send(request), send("a body"), read, leave)}},
		{Name: "late-body", Asks: "Does the answer arrive if the client sends more after a part of it?",
			Clients: []Client{a(connect, send(request), act{kind: reads, size: 20}, send("a body"), read, leave)}},
		{Name: "long-request", Asks: "Is a request answered that is longer than most reads?",
			Clients: []Client{a(connect, headed, read, leave)}},
		{Name: "endless", Asks: "Is a request without an end refused?",
			Clients: []Client{a(connect, long, read, leave)}, Unbounded: true},
		{Name: "small-buffers", Asks: "Is the whole answer sent if only a part fits at a time?",
			Clients: []Client{asks("a")}, SendBuffer: 30, ClientBuffer: 80},
		{Name: "reader-leaves", Asks: "Does a client that leaves in the middle of the answer do harm?",
			Clients:    []Client{a(connect, send(request), act{kind: reads, size: 20}, leave)},
			SendBuffer: 48, ClientBuffer: 40},
		{Name: "two", Asks: "Are two clients answered, in any order?",
			Clients: []Client{asks("a"), asks("b")}},
		{Name: "another-silent", Asks: "Is a client answered after another has left without a word?",
			Clients: []Client{a(connect, reset), asks("b")}},
		{Name: "another", Asks: "Is a client answered after another has left early?",
			Clients: []Client{a(connect, half, reset), asks("b")}},
		{Name: "silent", Asks: "Is a client answered while another never finishes its request?",
			Clients: []Client{a(connect, half), asks("b")}, SideBySide: true},
		{Name: "two-small-buffers", Asks: "Are two clients answered if only a part fits at a time?",
			Clients: []Client{asks("a"), asks("b")}, SendBuffer: 48, ClientBuffer: 40},
		{Name: "flooder", Asks: "Is a client answered while another sends without end?",
			Clients:    []Client{a(connect, send(request), act{kind: floods, bytes: bytes.Repeat([]byte("x"), 3000)}, reset), asks("b")},
			SideBySide: true, Plain: true},
		{Name: "queue", Asks: "Do clients that connect together all fit into the accept queue?",
			Clients: []Client{a(connect, half, act{kind: sends, bytes: rest.bytes, after: "e"}, read, leave),
				asks("b"), asks("c"), asks("d"), asks("e")}, Queue: true},
		{Name: "descriptors", Asks: "Is a client answered that comes when descriptors have run out?",
			Clients: []Client{a(connect, act{kind: closes, after: "b"}), asks("b")}, Descriptors: 6},
		{Name: "three", Asks: "Are three clients answered, in any order?",
			Clients: []Client{asks("a"), asks("b"), asks("c")}},
	}
}

// FindScenario returns the scenario of that name. "one@3" is the scenario one with three
// clients, "two.a1" the scenario two in which a stops after its first act.
func FindScenario(name string) (Scenario, error) {
	if rest, stops, found := cutLast(name, "."); found && len(stops) > 1 {
		s, err := FindScenario(rest)
		if err != nil {
			return s, err
		}
		acts, err := strconv.Atoi(stops[1:])
		if err != nil {
			return s, fmt.Errorf("%q: after . comes a client and the number of its acts, as in %s.a1", name, rest)
		}
		return s.Stop(stops[:1], acts)
	}
	base, clients, more := strings.Cut(name, "@")
	var names []string
	for _, s := range Scenarios() {
		if s.Name == base {
			if !more {
				return s, nil
			}
			n, err := strconv.Atoi(clients)
			if err != nil {
				return Scenario{}, fmt.Errorf("%q: after @ comes the number of clients, as in %s@3", name, base)
			}
			return s.With(n)
		}
		names = append(names, s.Name)
	}
	return Scenario{}, fmt.Errorf("no scenario %q; there are %s", name, strings.Join(names, ", "))
}

// mostClients bounds the clients of a scenario: their names are a to z.
const mostClients = 26

// With returns the scenario with n clients. Those that it does not have are like its last one.
func (s Scenario) With(n int) (Scenario, error) {
	has := len(s.Clients)
	switch {
	case n == has:
		return s, nil
	case n < 1 || n > mostClients:
		return s, fmt.Errorf("%s cannot be explored; the number must be between 1 and %d",
			count(n, "client"), mostClients)
	case n < has:
		return s, fmt.Errorf("the scenario %s has %d clients, and cannot do with %d; "+
			"leave --clients out, or choose another scenario: lesson explore --list", s.Name, has, n)
	}
	s.Name = fmt.Sprintf("%s@%d", s.Name, n)
	s.Asks = fmt.Sprintf("%s (%d clients)", s.Asks, n)
	s.Clients = slices.Clone(s.Clients)
	for i := has; i < n; i++ {
		s.Clients = append(s.Clients, Client{Name: string(rune('a' + i)), acts: s.Clients[has-1].acts})
	}
	return s, nil
}

// Stop returns the scenario in which a client does only its first acts, and then nothing.
func (s Scenario) Stop(client string, acts int) (Scenario, error) {
	i := slices.IndexFunc(s.Clients, func(c Client) bool { return c.Name == client })
	if i < 0 || acts < 0 || acts >= len(s.Clients[i].acts) {
		return s, fmt.Errorf("the scenario %s has no client %s that can stop after %s",
			s.Name, client, count(acts, "act"))
	}
	s.Name = fmt.Sprintf("%s.%s%d", s.Name, client, acts)
	s.Asks += fmt.Sprintf(" (%s stops after %s)", client, count(acts, "act"))
	s.Clients = slices.Clone(s.Clients)
	s.Clients[i].acts, s.Clients[i].stops = s.Clients[i].acts[:acts], true
	return s, nil
}

// cutLast cuts s around the last sep.
func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// wholeRequest reports whether the bytes end a request.
func wholeRequest(sent []byte) bool {
	return bytes.Contains(sent, []byte("\n\n")) || bytes.Contains(sent, []byte("\n\r\n"))
}

// answer is what every lesson and exercise responds: internal/protocol has it, too.
const answer = "HTTP/1.0 200 OK\r\n" +
	"Date: Mon, 1 Jan 1996 01:01:01 GMT\r\n" +
	"Content-Type: text/plain\r\n" +
	"Content-Length: 13\r\n" +
	"\r\n" +
	"Hello, world!"
