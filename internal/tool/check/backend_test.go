//go:build linux

package check

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"lesson/internal/play"
	"lesson/internal/protocol"
)

// A back end answers, refuses when it has ended, and answers again on the same port.
func TestBackEnd(t *testing.T) {
	b, err := Target{Command: []string{"{backend}"}}.newBackEnd()
	must(t, err)
	answers := func() {
		t.Helper()
		c, err := play.Dial(b.addr)
		must(t, err)
		defer c.Close()
		must(t, c.Send([]byte(whole)))
		if got, end := c.ReadAll(DefaultPatience); end != nil || string(got) != string(protocol.Response) {
			t.Errorf("%q, %v", got, end)
		}
	}
	answers()
	must(t, b.end())
	if c, err := play.Dial(b.addr); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("%v, %v, want %v", c, err, unix.ECONNREFUSED)
	}
	must(t, b.start())
	answers()
	must(t, b.end())
	must(t, b.end())
}
