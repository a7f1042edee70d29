//go:build linux

package check

import (
	"fmt"
	"os/exec"
	"slices"
	"strings"

	"lesson/internal/report"
)

// The models that a case is asked of.
var (
	everyone   = []Model{Blocking, Loop, Pool, Threaded, EventLoop, EventLoops}
	goingOn    = everyone[1:]                                   // servers of more than one client
	several    = []Model{Pool, Threaded, EventLoop, EventLoops} // of several at the same time
	concurrent = several[1:]                                    // of as many as come
	eventLoop  = []Model{EventLoop, EventLoops}
)

// Chapters that the cases point to.
const (
	oneClient      = "docs/01-one-client.md"
	acceptLoop     = "docs/02-a-loop.md"
	goroutineEach  = "docs/03-a-goroutine-each.md"
	levelTriggered = "docs/04-level-triggered.md"
	edgeTriggered  = "docs/05-edge-triggered.md"
	levelOrEdge    = "docs/06-level-or-edge.md"
	misbehave      = "docs/07-when-clients-misbehave.md"
	runsOut        = "docs/08-when-the-machine-runs-out.md"
	manyCores      = "docs/11-many-cores-and-machines.md"
)

// Cases is all cases, group by group.
func Cases() []Case {
	return slices.Concat(
		requests, disconnects, slow, timers, []Case{staleThread}, crowds, limits,
		[]Case{acceptFails, noThread}, signals, []Case{signalBeforeWait}, resources, idles, children,
		fairness, proxies)
}

// Listing returns the cases as a table.
func Listing(cases []Case) *report.Table {
	t := &report.Table{Left: 3}
	for _, c := range cases {
		t.Rows = append(t.Rows, []string{c.Address, string(c.Severity), c.Must})
	}
	return t
}

// Select is the cases of these addresses and groups, in the order of Cases; all
// of them for none. A group is its name, with or without "/…" or "/*".
func Select(only []string) ([]Case, error) {
	if len(only) == 0 {
		return Cases(), nil
	}
	wanted := map[string]bool{}
	for _, name := range only {
		group := strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(name, "…"), "*"), "/")
		known := false
		for _, c := range Cases() {
			if c.Address == name || c.Group() == group {
				wanted[c.Address] = true
				known = true
			}
		}
		if !known {
			return nil, unknown(name)
		}
	}
	var selected []Case
	for _, c := range Cases() {
		if wanted[c.Address] {
			selected = append(selected, c)
		}
	}
	return selected, nil
}

// Group is the first part of the address.
func (c Case) Group() string {
	group, _, _ := strings.Cut(c.Address, "/")
	return group
}

// rule returns where the contract states what the case asks about.
func (c Case) rule() string { return "docs/contract.md#" + strings.ToLower(c.Contract) }

// Script is what the case does to a server of that model, step by step.
func (c Case) Script(m Model) []string {
	var lines []string
	for _, s := range c.script {
		text := s.text
		if m == Blocking && s.once != "" {
			text = s.once
		}
		lines = append(lines, text)
	}
	return lines
}

func unknown(name string) error {
	var groups, near []string
	for _, c := range Cases() {
		if !slices.Contains(groups, c.Group()) {
			groups = append(groups, c.Group())
		}
		_, last, _ := strings.Cut(name, "/")
		if last != "" && strings.Contains(c.Address, last) {
			near = append(near, c.Address)
		}
	}
	_, program := exec.LookPath(name)
	if program == nil || strings.Contains(name, "{") || strings.HasPrefix(name, ".") {
		return fmt.Errorf("no case or group %q; a command goes after --: lesson check -- %s", name, name)
	}
	hint := "lesson check --list shows all cases; groups are " + strings.Join(groups, ", ")
	if len(near) > 0 {
		hint = "did you mean " + strings.Join(near, " or ") + "?"
	}
	return fmt.Errorf("no case or group %q; %s", name, hint)
}
