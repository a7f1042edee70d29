//go:build linux

package tour

import (
	"encoding/json"
	"strings"
	"time"
)

// A script is a scenario: what which client does, and when.
type script struct {
	Name     string     `json:"name"`
	Title    string     `json:"title"`
	Question string     `json:"question"` // what to look for
	Acts     []timedAct `json:"acts"`
}

// A timedAct is an act at its time, counted from the beginning.
type timedAct struct {
	At time.Duration
	Act
}

// MarshalJSON writes the time as milliseconds.
func (a timedAct) MarshalJSON() ([]byte, error) {
	type plain Act
	return json.Marshal(struct {
		At int64 `json:"at"`
		plain
	}{a.At.Milliseconds(), plain(a.Act)})
}

func findScript(name string) (script, error) {
	for _, s := range scripts() {
		if s.Name == name {
			return s, nil
		}
	}
	return script{}, notFound("no scenario %q", name)
}

const (
	half    = "GET / HTTP/1.0\r\n"
	rest    = "\r\n"
	request = half + rest
)

// scripts is the scenarios, the first one to begin with.
func scripts() []script {
	const second = time.Second
	return []script{
		{
			Name: "slow-client", Title: "a slow client, and one in a hurry",
			Question: "a holds half a request. Who keeps b waiting, and on which line?",
			Acts: []timedAct{
				{0, Act{Client: "a", Do: "connect"}},
				{1 * second / 2, Act{Client: "a", Do: "send", Bytes: half}},
				{3 * second / 2, Act{Client: "b", Do: "connect"}},
				{2 * second, Act{Client: "b", Do: "send", Bytes: request}},
				{5 * second, Act{Client: "a", Do: "send", Bytes: rest}},
				{6 * second, Act{Client: "b", Do: "close"}},
				{7 * second, Act{Client: "a", Do: "close"}},
			},
		},
		{
			Name: "burst", Title: "twelve clients at once",
			Question: "How long is each accept queue, and how many connections come with one event?",
			Acts:     burst(12),
		},
		{
			Name: "two-writes-one-edge", Title: "two writes, one edge",
			Question: "The request comes in two pieces while the server is busy elsewhere. How many" +
				" events does epoll report?",
			Acts: []timedAct{
				{0, Act{Client: "a", Do: "connect"}},
				{1 * second / 2, Act{Client: "a", Do: "send", Bytes: half}},
				{1*second/2 + time.Millisecond, Act{Client: "a", Do: "send", Bytes: rest}},
				{3 * second / 2, Act{Client: "a", Do: "close"}},
			},
		},
		{
			Name: "long-request", Title: "a request of 2,000 bytes",
			Question: "How often is read called, and what would happen to a server that reads once" +
				" per edge?",
			Acts: []timedAct{
				{0, Act{Client: "a", Do: "connect"}},
				{1 * second / 2, Act{
					Client: "a", Do: "send",
					Bytes: half + "Cookie: " + strings.Repeat("7", 2000) + "\r\n" + rest,
				}},
				// a stays: whose edge is lost is seen to wait.
			},
		},
		{
			Name: "one-byte-at-a-time", Title: "byte by byte",
			Question: "A client drips. Which servers wake for each byte, and whom does it hold up?",
			Acts:     dripping(),
		},
		{
			Name: "half-close", Title: "a client that says it is done",
			Question: "a sends its request and ends its side. Is it answered all the same? b ends" +
				" its side in the middle.",
			Acts: []timedAct{
				{0, Act{Client: "a", Do: "connect"}},
				{1 * second / 2, Act{Client: "a", Do: "send", Bytes: request}},
				{1*second/2 + time.Millisecond, Act{Client: "a", Do: "half-close"}},
				{2 * second, Act{Client: "b", Do: "connect"}},
				{5 * second / 2, Act{Client: "b", Do: "send", Bytes: half}},
				{7 * second / 2, Act{Client: "b", Do: "half-close"}},
				{9 * second / 2, Act{Client: "a", Do: "close"}},
				{5 * second, Act{Client: "b", Do: "close"}},
			},
		},
		{
			Name: "reset", Title: "a client that resets",
			Question: "a resets in the middle of its request. What does read return, and does b notice?",
			Acts: []timedAct{
				{0, Act{Client: "a", Do: "connect"}},
				{1 * second / 2, Act{Client: "a", Do: "send", Bytes: half}},
				{1 * second, Act{Client: "b", Do: "connect"}},
				{2 * second, Act{Client: "a", Do: "reset"}},
				{5 * second / 2, Act{Client: "b", Do: "send", Bytes: request}},
				{4 * second, Act{Client: "b", Do: "close"}},
			},
		},
	}
}

// burst is n clients that connect at once, and send in their order.
func burst(n int) []timedAct {
	var connects, sends, closes []timedAct
	for i := range n {
		name := string(rune('a' + i))
		connects = append(connects, timedAct{0, Act{Client: name, Do: "connect"}})
		at := time.Second + time.Duration(i)*20*time.Millisecond
		sends = append(sends, timedAct{at, Act{Client: name, Do: "send", Bytes: request}})
		closes = append(closes, timedAct{at + 2*time.Second, Act{Client: name, Do: "close"}})
	}
	return append(append(connects, sends...), closes...)
}

// dripping is a client that sends its request byte by byte, and one that waits.
func dripping() []timedAct {
	acts := []timedAct{
		{0, Act{Client: "a", Do: "connect"}},
		{200 * time.Millisecond, Act{Client: "b", Do: "connect"}},
		{400 * time.Millisecond, Act{Client: "b", Do: "send", Bytes: request}},
	}
	at := time.Second / 2
	for i := range request {
		acts = append(acts, timedAct{at, Act{Client: "a", Do: "send", Bytes: request[i : i+1]}})
		at += 200 * time.Millisecond
	}
	return append(acts, timedAct{at + time.Second, Act{Client: "a", Do: "close"}},
		timedAct{at + 2*time.Second, Act{Client: "b", Do: "close"}})
}
