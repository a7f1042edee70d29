//go:build linux

package race

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"lesson/internal/child"
	"lesson/internal/lesson"
	"lesson/internal/observe/trace"
	"lesson/internal/play"
	"lesson/internal/proof"
)

// A race on Linux is recorded, and then played again on the simulated kernel: the recorded
// system calls of the lesson, and between them the acts of the clients. A call whose result
// differs from the recorded one fails the test: see replay.

// An op is a call of the server, or an act of a client. Times are from the beginning of the
// play.
type op struct {
	From time.Duration `json:"from"`
	To   time.Duration `json:"to"` // when it was done

	// Of a call. Descriptors are those of the recorded process.
	Name   string        `json:"name,omitempty"`
	Args   string        `json:"args,omitempty"`
	Result int           `json:"result,omitempty"`
	Err    string        `json:"err,omitempty"`
	Data   string        `json:"data,omitempty"` // the first bytes that were read, quoted
	Ready  []trace.Ready `json:"ready,omitempty"`

	Client string     `json:"client,omitempty"` // that acts, or was accepted
	Do     play.Verb  `json:"do,omitempty"`
	Bytes  play.Bytes `json:"bytes,omitempty"`
	// Of a close: what the client has read before, "" if it does not read.
	Read string `json:"read,omitempty"`
}

// A history is what happened in one race, at one server.
type history []op

// recorded are the races that are kept in testdata. Others have acts that are not
// recorded one by one (flooder), or hundreds of clients (crowd, burst).
var recorded = []string{
	"slow-client", "half-requests", "slow-reader", "stuck", "two-writes-one-edge",
}

// To record them again: RECORD=1 go test ./internal/tool/race -run TestRecordedRaces
func TestRecordedRaces(t *testing.T) {
	for _, scenario := range recorded {
		t.Run(scenario, func(t *testing.T) {
			t.Parallel()
			if os.Getenv("RECORD") != "" {
				for name, h := range record(t, scenario) {
					h.write(t, fileOf(scenario, name))
				}
			}
			files, err := filepath.Glob(fileOf(scenario, "*"))
			proof.Must(t, err)
			if len(files) != 5 {
				t.Fatalf("%d lessons were recorded, want 5", len(files))
			}
			for _, file := range files {
				replay(t, filepath.Base(file), readHistory(t, file))
			}
		})
	}
}

func fileOf(scenario, lesson string) string {
	return filepath.Join("testdata", "histories", scenario+"."+lesson+".json")
}

// record races all lessons whose calls can be traced.
func record(t *testing.T, scenario string) map[string]history {
	s, err := play.Many().Find(scenario)
	proof.Must(t, err)
	var lessons []lesson.Lesson
	for _, l := range lesson.All() {
		if !l.Untraced {
			lessons = append(lessons, l)
		}
	}
	dir, err := child.Temporary("lesson-race")
	proof.Must(t, err)
	defer func() { proof.Must(t, dir.Remove()) }()
	runners, err := start(t.Context(), lessons, dir.Path)
	proof.Must(t, err)
	playAll(t.Context(), runners, Options{Scenario: s})
	proof.Must(t, end(runners))
	histories := map[string]history{}
	for _, r := range runners {
		events, err := readTrace(r.trace)
		proof.Must(t, err)
		histories[r.lesson.Name] = newHistory(s, r.record, events)
	}
	return histories
}

// newHistory puts both sides together, in the order in which they began. If a client has
// given up, it ends with the play: how such a client closes is not recorded.
func newHistory(s play.Scenario, record play.Record, events []trace.Event) history {
	var h history
	names := map[netip.AddrPort]string{}
	ends := time.Duration(math.MaxInt64)
	for _, c := range record.Clients {
		names[c.Addr] = c.Name
		h = append(h, actsOf(s, c)...)
		if !c.Gone {
			ends = record.Lasted
		}
	}
	last := time.Duration(0)
	server := trace.NewState()
	for _, e := range events {
		entered, known := server.Note(e)
		if !known || !e.Left || e.At-record.Began > ends {
			continue
		}
		call := op{
			From: entered.At - record.Began, To: e.At - record.Began,
			Name: e.Name, Args: e.Args, Result: e.Result, Err: e.Err, Ready: e.Ready,
		}
		switch {
		case e.Name == "accept4":
			call.Client = names[e.Peer]
		case e.Name == "read":
			call.Data = e.Data
		}
		for i := range call.Ready {
			call.Ready[i].Peer = netip.AddrPort{}
		}
		h = append(h, call)
		last = max(last, call.To)
	}
	if ends == math.MaxInt64 {
		h = append(h, op{From: last, To: last + 1, Name: "exit"}) // closes what is open
	}
	slices.SortStableFunc(h, func(a, b op) int { return cmp.Compare(a.From, b.From) })
	return h
}

// actsOf returns the acts of one client.
func actsOf(s play.Scenario, c play.Seen) history {
	var h history
	var sends []play.Bytes
	for _, a := range s.Acts {
		if a.Client == c.Name && a.Do == play.Send {
			sends = append(sends, a.Bytes)
		}
	}
	leaves := op{From: c.Ended, Client: c.Name, Do: play.Close}
	for _, d := range c.Acts {
		act := op{From: d.At, To: d.Until, Client: c.Name, Do: d.Do}
		switch d.Do {
		case play.Connect:
			if c.Connected == 0 {
				act.Err = "refused"
				return append(h, act)
			}
			h = append(h, act)
		case play.Send:
			act.Bytes, sends = sends[0], sends[1:]
			h = append(h, act)
		case play.ReadAndClose, play.ReadSlowly:
			leaves.To = d.Until
			ended := c.How == play.Answered || c.How == play.Closed
			leaves.Read = read(int(c.Got), ended, c.How == play.WasReset)
		}
	}
	if c.Gone {
		h = append(h, leaves)
	}
	return h
}

// read puts what a client has read into words.
func read(n int, ended, reset bool) string {
	switch {
	case reset:
		return fmt.Sprintf("%d bytes, and a reset", n)
	case ended:
		return fmt.Sprintf("%d bytes, and end of file", n)
	}
	return fmt.Sprintf("%d bytes", n)
}

func (h history) write(t *testing.T, name string) {
	var text strings.Builder
	lines := json.NewEncoder(&text)
	lines.SetEscapeHTML(false)
	for _, o := range h {
		proof.Must(t, lines.Encode(o))
	}
	proof.Must(t, os.WriteFile(name, []byte(text.String()), 0o666))
}

func readHistory(t *testing.T, name string) (h history) {
	file, err := os.Open(name)
	proof.Must(t, err)
	defer file.Close()
	for lines := json.NewDecoder(bufio.NewReader(file)); ; {
		var o op
		err := lines.Decode(&o)
		if errors.Is(err, io.EOF) {
			return h
		}
		proof.Must(t, err)
		h = append(h, o)
	}
}

// String returns what was recorded: "read(5, 16384 bytes) = 18 …".
func (o op) String() string {
	if o.Do != "" {
		return strings.TrimSpace(fmt.Sprintf("%s: %s %s", o.Client, o.Do, o.Read))
	}
	return fmt.Sprintf("%s(%s) = %s", o.Name, o.Args, o.want())
}

// want returns the recorded result as machine.call returns the simulated one.
func (o op) want() string {
	result := o.Err
	switch {
	case o.Do != "":
		return cmp.Or(o.Err, o.Read)
	case o.Err != "":
	case o.Name == "accept4":
		return "a connection of " + o.Client
	case makesDescriptor(o.Name):
		return "a descriptor"
	default:
		result = strings.TrimSpace(fmt.Sprint(o.Result, " ", strings.TrimSuffix(o.Data, "…")))
	}
	return result + inOrder(o.Ready)
}

// inOrder writes events in the order of their descriptors.
func inOrder(ready []trace.Ready) (text string) {
	byFD := func(a, b trace.Ready) int { return cmp.Compare(a.FD, b.FD) }
	for _, r := range slices.SortedFunc(slices.Values(ready), byFD) {
		text += fmt.Sprintf(" [%d %s]", r.FD, r.Events)
	}
	return text
}

func makesDescriptor(call string) bool {
	return call == "socket" || call == "accept4" || call == "epoll_create1"
}
