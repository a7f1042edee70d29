//go:build linux

package simulated_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"lesson/internal/kernel/simulated"
	"lesson/internal/proof"
)

// Random vectors: what the simulated kernel returns is expected of Linux. A difference is
// a bug of the simulated kernel. Its vector, as short as it can be made, is printed as
// vectors.txt has them; once the bug is fixed, it belongs there.

// TestRandomVectors tries vectors for a second, in the exhaustive run for ten.
func TestRandomVectors(t *testing.T) {
	limit := time.Second
	if proof.Exhaustive() {
		limit = 10 * time.Second
	}
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))
	tried := 0
	for end := time.Now().Add(limit); time.Now().Before(end); tried++ {
		choices := make([]byte, 200)
		for i := range choices {
			choices[i] = byte(random.Uint32())
		}
		compare(t, choices)
	}
	t.Logf("%d vectors, seed %d", tried, seed)
}

// FuzzVectors tries as many as there is time for:
// go test ./internal/kernel/simulated -run '^$' -fuzz FuzzVectors -fuzztime 5m
func FuzzVectors(f *testing.F) {
	f.Add([]byte("any choices"))
	f.Fuzz(compare)
}

func compare(t *testing.T, choices []byte) {
	const enough = 200 // a longer vector finds no more, and takes much longer
	a := &author{t, choices[:min(len(choices), enough)]}
	calls := a.write()
	lines, _ := simulate(t, calls)
	if !differs(t, lines) {
		return
	}
	for i := len(calls) - 1; i >= 0; i-- { // drop the calls that the difference does not need
		fewer := slices.Delete(slices.Clone(calls), i, i+1)
		if shorter, ok := simulate(t, fewer); ok && differs(t, shorter) {
			calls, lines = fewer, shorter
		}
	}
	if at, got := play(t, lines, newOnLinux()); at >= 0 { // else a busy machine was slow
		t.Fatalf("-- RULE\n%s\n\nLinux returns %q in line %d", strings.Join(lines, "\n"), got, at+1)
	}
}

// differs reports whether Linux returns something else, three times in a row, the last
// with more patience.
func differs(t *testing.T, lines []string) bool {
	for _, patience := range []time.Duration{20 * time.Millisecond, 50 * time.Millisecond, 500 * time.Millisecond} {
		linux := newOnLinux()
		linux.patience = patience
		if at, _ := play(t, lines, linux); at < 0 {
			return false
		}
	}
	return true
}

// simulate adds to the calls of a vector what the simulated kernel returns. ok is false
// if one of them makes no sense after those before it.
func simulate(t *testing.T, calls []string) (lines []string, ok bool) {
	m := newInMemory()
	p := newPlayer(t, m)
	defer p.end()
	gone := map[string]bool{}
	for _, call := range calls {
		name, words, _, err := simulated.ParseCall(call)
		proof.Must(t, err)
		subject := words[0]
		client := name == "" && len(subject) == 1
		switch {
		case client && words[1] == "connects":
			ok = m.clients[subject] == nil && p.port != 0
		case client:
			ok = m.clients[subject] != nil && !gone[subject]
		default:
			ok = p.hasAll(words[1:])
		}
		if !ok {
			return nil, false
		}
		got := p.do(name, words, "?")
		switch {
		case name != "" && got != "", client && !m.clients[subject].Connected():
			return nil, false
		case subject == "wait" || got != "":
			call = strings.TrimSpace(call + " = " + got)
		}
		switch {
		case client:
			gone[subject] = words[1] == "closes" || words[1] == "resets"
		case subject == "close":
			delete(p.fds, words[1]) // another may get its number
		}
		lines = append(lines, call)
	}
	return lines, true
}

// hasAll reports whether all that these words name is open.
func (p *player) hasAll(words []string) bool {
	return !slices.ContainsFunc(words, func(word string) bool {
		named := len(word) == 1 && word >= "A" && word <= "Z"
		return named && !slices.Contains(p.open, p.fds[word])
	})
}

// An author writes a vector. Each choice takes a byte; without any left, the vector ends.
type author struct {
	t       *testing.T
	choices []byte
}

func (a *author) choose(n int) int {
	c := int(a.choices[0]) % n
	a.choices = a.choices[1:]
	return c
}

func (a *author) one(of ...string) string { return of[a.choose(len(of))] }

// most is how many choices a call takes.
const most = 8

func (a *author) write() []string {
	calls := []string{"L = listen", "E = epoll", "a connects", "A = accept L"}
	for len(a.choices) >= most {
		more := append(slices.Clone(calls), a.call())
		if _, ok := simulate(a.t, more); ok {
			calls = more
		}
	}
	return calls
}

// call returns a call that may make no sense.
func (a *author) call() string {
	list := a.one("E", "E", "E", "F")
	conn := a.one("A", "A", "B", "C", "D", "L")
	client := a.one("a", "a", "b", "c")
	number := 1 + a.choose(12)
	switch a.choose(16) {
	case 0:
		return client + " connects"
	case 1:
		return a.one("A", "B", "C") + " = accept L"
	case 2:
		return a.one("F = epoll", "D = dup "+conn, "S = socket")
	case 3, 4:
		return fmt.Sprintf("add %s %s %s", list, a.one(conn, conn, conn, "E", "S"), a.mask())
	case 5:
		return fmt.Sprintf("mod %s %s %s", list, conn, a.mask())
	case 6:
		return fmt.Sprintf("del %s %s", list, conn)
	case 7, 8, 9:
		return a.one("wait "+list, "wait "+list, "wait "+list+" max 1")
	case 10:
		return fmt.Sprintf("read %s %d", conn, number)
	case 11:
		return fmt.Sprintf("send %s %d", conn, number)
	case 12:
		return a.one("shutdown "+conn+" "+a.one("RD", "WR", "RDWR"), "close "+conn,
			fmt.Sprintf("lowat %s %d", conn, number))
	case 13:
		return client + " " + a.one("half-closes", "closes", "resets")
	case 14:
		return fmt.Sprintf("%s reads %d", client, number)
	default:
		return fmt.Sprintf("%s sends %d", client, number)
	}
}

func (a *author) mask() string {
	return a.one("IN", "OUT", "IN|OUT", "0", "IN|RDHUP") + a.one("", "", "|ET", "|ET", "|ONESHOT", "|EXCLUSIVE")
}
