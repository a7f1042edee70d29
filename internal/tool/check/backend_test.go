//go:build linux

package check

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"lesson/internal/play"
	"lesson/internal/protocol"
)

// What is asked of proxies is left out for other servers, unless it is asked for by name.
func TestCasesOfProxies(t *testing.T) {
	ordinary, proxy := []string{"./server", "{addr}"}, []string{"./proxy", "{addr}", "--to={backend}"}
	for _, c := range []struct {
		command, only []string
		asked         bool
	}{
		{ordinary, nil, false},
		{nil, nil, false}, // it runs already
		{ordinary, []string{"proxy"}, true},
		{proxy, nil, true},
		{proxy, []string{"requests"}, false},
	} {
		cases, err := Target{Command: c.command}.cases(c.only)
		must(t, err)
		if asked := slices.ContainsFunc(cases, Case.OfProxies); asked != c.asked {
			t.Errorf("%q, only %q: asked is %v", c.command, c.only, asked)
		}
	}
	report, err := Run(t.Context(), Target{Command: command(serveWrong, "none")},
		Options{Only: []string{"proxy"}})
	must(t, err)
	for _, r := range report.Results {
		if r.Verdict != NotJudged || !strings.Contains(r.Reason, "{port} {backend}") {
			t.Errorf("%s of a server that is no proxy: %s, %q", r.Address, r.Verdict, r.Reason)
		}
	}
}

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
