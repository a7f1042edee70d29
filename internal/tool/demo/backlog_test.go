//go:build linux

package demo

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"lesson/internal/observe/sockets"
	"lesson/internal/proof"
)

// soon is earlier than any SYN is sent again, which is after a second.
const soon = 900 * time.Millisecond

// The queue holds one more than its backlog. A later client is ignored until its SYN
// is sent again, at least a second later. A client whose handshake was under way is
// connected, but not in the queue.
func TestBacklogFull(t *testing.T) {
	t.Parallel()
	seen, err := fillQueue(t.Context())
	proof.Must(t, err)
	if seen.Backlog != shortBacklog || seen.Length != shortBacklog+1 {
		t.Errorf("the queue held %d with a backlog of %d", seen.Length, seen.Backlog)
	}
	if least := uint32(delayed + 3*ignored); seen.Drops < least {
		t.Errorf("the listener ignored %d segments, want %d at the least", seen.Drops, least)
	}
	established := sockets.Established.String()
	for i, c := range seen.Clients {
		switch {
		case i < delayed:
			if !c.deceived() || c.Server != "SYN_RECV" {
				t.Errorf("client %d thinks %s, the server %s", i+1, c.Client, c.Server)
			}
			if c.Connected > seen.Full || c.Answered < seen.Full {
				t.Errorf("client %d: connected after %v, answered after %v", i+1, c.Connected, c.Answered)
			}
		case i < delayed+fitting:
			if c.Client != established || c.Server != established || len(c.Retries) > 0 {
				t.Errorf("client %d should be in the queue: %+v", i+1, c)
			}
		default:
			if !c.ignored() || c.Server != "nothing" || len(c.Retries) < 2 {
				t.Errorf("client %d should be ignored twice: %+v", i+1, c)
				break
			}
			if c.Retries[0] < soon || c.Retries[1] < 2*soon {
				t.Errorf("client %d sent its SYN again after %v", i+1, c.Retries)
			}
			if c.Connected < seen.Full {
				t.Errorf("client %d was connected after %v, the queue full for %v", i+1, c.Connected, seen.Full)
			}
		}
		if c.Answered == 0 {
			t.Errorf("client %d was not answered", i+1)
		}
	}
}

// With a server that is away, whether a client has to wait depends on the backlog
// and on nothing else.
func TestBacklogBursts(t *testing.T) {
	t.Parallel()
	all, err := bursts(t.Context(), []int{1, 50, 98, 99, 128}, burstWindow)
	proof.Must(t, err)
	for _, m := range all {
		tooMany := max(0, m.Clients-(m.Backlog+1))
		switch {
		case m.Away && m.Retried != tooMany:
			t.Errorf("away, backlog %d: %d clients were ignored, want %d", m.Backlog, m.Retried, tooMany)
		case m.Retried > tooMany:
			t.Errorf("accepting, backlog %d: %d clients were ignored, more than when away", m.Backlog, m.Retried)
		}
		if m.Retried > 0 && m.Slowest < soon {
			t.Errorf("backlog %d: the slowest waited %v, with %d ignored", m.Backlog, m.Slowest, m.Retried)
		}
		if m.Retried == 0 && m.Waiting > 0 {
			t.Errorf("backlog %d: %d have no answer, and none was ignored", m.Backlog, m.Waiting)
		}
	}
}

// What is printed follows from what was seen.
func TestBacklogResult(t *testing.T) {
	seen := BacklogData{
		Queue: &QueueSeen{Backlog: 3, Length: 4, Drops: 9, Full: 2 * time.Second, Clients: []QueueClient{
			{Client: "ESTABLISHED", Server: "SYN_RECV", Answered: 3 * time.Second},
			{Client: "SYN_SENT", Server: "nothing", Retries: []time.Duration{time.Second}},
		}},
		Bursts: []Burst{
			{Backlog: 50, Away: true, Retried: 49, Slowest: time.Second, Window: time.Second},
			{Backlog: 50, Retried: 1, Waiting: 1, Slowest: time.Second, Window: time.Second},
			{Backlog: 99, Away: true}, {Backlog: 99},
		},
		Counters: map[string]int64{"ListenDrops": 9, "ListenOverflows": 9},
	}
	r := seen.result()
	checkResult(t, "backlog", r)
	if row := r.Tables[1].Rows[0]; row[1] != "49" || row[4] != "1 not in 1 s" {
		t.Errorf("a row of the bursts is %q", row)
	}
	for i, words := range []string{"ignored 9 segments", "its request was not sent again", "backlogs that was enough for 100 clients is 99"} {
		if !strings.Contains(r.Sentences[i], words) {
			t.Errorf("%q does not say %q", r.Sentences[i], words)
		}
	}
}

func TestBacklogInterrupted(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(100*time.Millisecond, cancel)
	began := time.Now()
	if _, err := runBacklog(ctx, Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("it took %v to end", took)
	}
}
