//go:build linux

package demo

import (
	"testing"

	"lesson/internal/proof"
)

func TestCompletion(t *testing.T) {
	t.Parallel()
	r, err := completions.Run(t.Context(), Options{})
	proof.Must(t, err)
	checkResult(t, "completion", r)
	data := r.Data.(CompletionData)
	want := map[string]Watched{
		"a regular file": {Add: "EPERM", Uring: "5"},
		"a directory":    {Add: "EPERM", Uring: "EISDIR"},
		"/dev/null":      {Add: "EPERM", Uring: "0"},
		"a pipe":         {Add: "0", Uring: "5"},
		"a connection":   {Add: "0", Uring: "5"},
	}
	if len(data.Watched) != len(want) {
		t.Errorf("%d kinds, want %d", len(data.Watched), len(want))
	}
	for _, w := range data.Watched {
		if w.Add != want[w.What].Add {
			t.Errorf("%s: epoll_ctl says %s, want %s", w.What, w.Add, want[w.What].Add)
		}
		if data.Uring == "" && w.Uring != want[w.What].Uring {
			t.Errorf("%s: io_uring reads %s, want %s", w.What, w.Uring, want[w.What].Uring)
		}
	}
	switch data.Uring {
	case "EPERM", "ENOSYS":
		t.Skipf("no io_uring for us here: %s", data.Uring)
	case "":
	default:
		t.Fatalf("io_uring_setup: %s", data.Uring)
	}
	if len(data.Reads) != 2 {
		t.Fatalf("%d ways to read, want 2", len(data.Reads))
	}
	e, u := data.Reads[0], data.Reads[1]
	if e.Messages != readers*messages || u.Messages != e.Messages {
		t.Errorf("%d and %d messages, want %d", e.Messages, u.Messages, readers*messages)
	}
	// epoll: a call for each message, and those that wait.
	if e.Calls <= e.Messages || u.Calls >= u.Messages {
		t.Errorf("%d system calls with epoll, %d with io_uring, for %d messages; want more, and fewer",
			e.Calls, u.Calls, e.Messages)
	}
}
