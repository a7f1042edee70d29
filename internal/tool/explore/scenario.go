//go:build linux

package explore

import (
	"bytes"
	"fmt"
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
	reads // what has arrived, up to size bytes; until the end, if size is 0
)

type act struct {
	kind  actKind
	bytes []byte
	size  int
}

// A Client is one client of a scenario: its acts are done in order, each at any time
// after the one before.
type Client struct {
	Name string
	acts []act
}

// A Scenario is a few clients. Which of them acts when is not part of it: that is what
// is explored.
type Scenario struct {
	Name    string
	Tells   string // what is asked
	Clients []Client

	Descriptors  int // of the server's process; 0 for plenty
	SendBuffer   int // of each connection; 0 for plenty
	ClientBuffer int
}

const request = "GET / HTTP/1.0\r\n\r\n"

// asks is a client that sends a whole request and reads to the end.
func asks(name string) Client {
	return Client{name, []act{{kind: connects}, send(request), {kind: reads}, {kind: closes}}}
}

func send(text string) act { return act{kind: sends, bytes: []byte(text)} }

// Scenarios returns all of them, the simplest first.
func Scenarios() []Scenario {
	half := request[:len(request)/2]
	return []Scenario{
		{Name: "one", Tells: "is one client answered, however its request is cut?",
			Clients: []Client{asks("a")}},
		{Name: "two", Tells: "are two clients answered, in any order?",
			Clients: []Client{asks("a"), asks("b")}},
		{Name: "leaves", Tells: "does a client that leaves early do harm?",
			Clients: []Client{{"a", []act{{kind: connects}, {kind: closes}}}, asks("b")}},
		{Name: "half-request", Tells: "and one that leaves in the middle of its request?",
			Clients: []Client{{"a", []act{{kind: connects}, send(half), {kind: closes}}}, asks("b")}},
		{Name: "silent", Tells: "does a client that never finishes its request keep others waiting?",
			Clients: []Client{{"a", []act{{kind: connects}, send(half)}}, asks("b")}},
		{Name: "half-close", Tells: "is a client answered that sends its end with its request?",
			Clients: []Client{{"a", []act{{kind: connects}, send(request), {kind: halfCloses},
				{kind: reads}, {kind: closes}}}, asks("b")}},
		{Name: "reset", Tells: "does a reset cost only its own connection?",
			Clients: []Client{{"a", []act{{kind: connects}, send(half), {kind: resets}}}, asks("b")}},
		{Name: "reset-after-request", Tells: "and a reset before the answer can be sent?",
			Clients: []Client{{"a", []act{{kind: connects}, send(request), {kind: resets}}}, asks("b")}},
		{Name: "body", Tells: "does the answer arrive if the client sends more than a request?",
			Clients: []Client{{"a", []act{{kind: connects}, send(request), send("a body"),
				{kind: reads}, {kind: closes}}}}},
		{Name: "late-body", Tells: "and if it sends after the answer has come?",
			Clients: []Client{{"a", []act{{kind: connects}, send(request), {kind: reads, size: 20},
				send("a body"), {kind: reads}, {kind: closes}}}}},
		{Name: "small-buffers", Tells: "is the whole answer sent if only a part fits at a time?",
			Clients:    []Client{asks("a"), asks("b")},
			SendBuffer: 48, ClientBuffer: 40},
		{Name: "reader-leaves", Tells: "does a client that leaves while the answer is sent do harm?",
			Clients: []Client{{"a", []act{{kind: connects}, send(request), {kind: reads, size: 20},
				{kind: closes}}}, asks("b")},
			SendBuffer: 48, ClientBuffer: 40},
		{Name: "three", Tells: "are three clients answered, in any order?",
			Clients: []Client{asks("a"), asks("b"), asks("c")}},
		{Name: "descriptors", Tells: "is a client answered that comes when descriptors have run out?",
			Clients: []Client{asks("a"), asks("b"), asks("c")}, Descriptors: 6},
	}
}

// FindScenario returns the scenario of that name.
func FindScenario(name string) (Scenario, error) {
	var names []string
	for _, s := range Scenarios() {
		if s.Name == name {
			return s, nil
		}
		names = append(names, s.Name)
	}
	return Scenario{}, fmt.Errorf("no scenario %q; there are %s", name, strings.Join(names, ", "))
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
