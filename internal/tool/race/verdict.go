//go:build linux

package race

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"lesson/internal/play"
	"lesson/internal/report"
)

// sentence describes what happened at a server, using only what was measured.
func (v *view) sentence(s *Server) string {
	said := []string{v.ends(s)}
	if text := keptSentence(s); text != "" {
		said = append(said, text)
	}
	if text := v.meanwhile(); text != "" {
		said = append(said, text)
	}
	if text := v.how(s); text != "" {
		said = append(said, text)
	}
	return strings.Join(said, " ")
}

// ends counts how the clients ended.
func (v *view) ends(s *Server) string {
	var asked, answered, late []Row // late: asked, and got no answer
	other := map[play.Outcome]int{}
	for i, c := range v.record.Clients {
		r := s.Rows[i]
		switch {
		case r.How == play.Answered:
			asked, answered = append(asked, r), append(answered, r)
		case c.Asked > 0:
			asked, late = append(asked, r), append(late, r)
		default:
			other[r.How]++
		}
	}
	var parts []string
	switch {
	case len(asked) == 0:
		parts = append(parts, "no client sent a request")
	case len(late) == 0:
		parts = append(parts, fmt.Sprintf("%s answered", all(len(answered))))
	default:
		number := fmt.Sprintf("%d of the %d clients that sent a request %s",
			len(answered), len(asked), was(len(answered)))
		if len(answered) == 0 {
			number = fmt.Sprintf("none of the %d clients that sent a request was", len(asked))
		}
		parts = append(parts, number+" answered")
		for _, how := range []play.Outcome{
			play.GaveUp, play.WasReset, play.Closed, play.Left,
		} {
			n := 0
			for _, r := range late {
				if r.How == how {
					n++
				}
			}
			if n > 0 {
				parts = append(parts, fmt.Sprintf("%d %s", n, ending(how, n)))
			}
		}
	}
	for _, how := range []play.Outcome{
		play.TooLarge, play.WasReset, play.Closed, play.Unconnected, play.Open,
		play.Flooded,
	} {
		if n := other[how]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, ending(how, n)))
		}
	}
	text := capital(strings.Join(parts, ", "))
	if s.Ended {
		text += "; the server had exited"
	}
	return text + "."
}

// ending returns an Outcome as the end of a sentence about n clients.
func ending(how play.Outcome, n int) string {
	switch how {
	case play.GaveUp:
		return "gave up"
	case play.WasReset:
		return was(n) + " reset"
	case play.Closed:
		return was(n) + " closed without an answer"
	case play.Left:
		return "left without waiting for the answer"
	case play.TooLarge:
		return was(n) + " refused: 431"
	case play.Unconnected:
		return "could not connect"
	case play.Open:
		return "never finished a request"
	case play.Flooded:
		return was(n) + " never refused"
	}
	return string(how)
}

// keptSentence describes which clients waited for which, a part for each call in which
// the server was blocked.
func keptSentence(s *Server) string {
	if s.Untraced {
		return ""
	}
	if len(s.Kept) == 0 {
		return "The server was never blocked on one client while another waited."
	}
	type cause struct{ call, at string }
	var order []cause
	kept := map[cause][]Kept{}
	for _, k := range s.Kept {
		c := cause{k.Call, k.At}
		if kept[c] == nil {
			order = append(order, c)
		}
		kept[c] = append(kept[c], k)
	}
	longest := func(c cause) time.Duration {
		most := time.Duration(0)
		for _, k := range kept[c] {
			most = max(most, k.Waited)
		}
		return most
	}
	slices.SortStableFunc(order, func(a, b cause) int { return cmp.Compare(longest(b), longest(a)) })
	var parts []string
	for _, c := range order {
		var by []string
		least, most := kept[c][0].Waited, kept[c][0].Waited
		for _, k := range kept[c] {
			for _, who := range k.By {
				if !slices.Contains(by, who) {
					by = append(by, who)
				}
			}
			least, most = min(least, k.Waited), max(most, k.Waited)
		}
		n := len(kept[c])
		whose := "its connection"
		if len(by) > 1 {
			whose = "their connections"
		}
		parts = append(parts, fmt.Sprintf(
			"%s waited %s for %s: the server was blocked in %s on %s, at %s.",
			report.Plural(n, "client", "clients"), span(least, most), list(by, 3), c.call, whose, c.at))
	}
	return strings.Join(parts, " ")
}

// meanwhile counts the quick clients that were answered before the others finished: a
// server that serves one client after the other cannot do that.
func (v *view) meanwhile() string {
	quick, during := 0, 0
	for _, c := range v.record.Clients {
		if c.Role != play.Quick {
			continue
		}
		quick++
		if c.How == play.Answered && v.busyWithout(c) {
			during++
		}
	}
	slow := 0
	for _, c := range v.record.Clients {
		if c.Role != play.Quick {
			slow++
		}
	}
	if slow == 0 || quick == 0 {
		return ""
	}
	who := fmt.Sprintf("any of the %d others", slow)
	if slow == 1 {
		who = v.notQuick()
	}
	number := fmt.Sprintf("%d of the %d quick clients %s", during, quick, was(during))
	switch during {
	case 0:
		return fmt.Sprintf("None of the %d quick clients was answered before %s finished.", quick, who)
	case quick:
		number = fmt.Sprintf("All %d quick clients were", quick)
	}
	return fmt.Sprintf("%s answered before %s finished.", number, who)
}

// notQuick returns the name of the first client that is not quick.
func (v *view) notQuick() string {
	for _, c := range v.record.Clients {
		if c.Role != play.Quick {
			return c.Name
		}
	}
	return ""
}

// busyWithout reports whether c was answered before any client that is not quick had
// its own answer, or ended.
func (v *view) busyWithout(c play.Seen) bool {
	for _, o := range v.record.Clients {
		if o.Role == play.Quick || o.Connected == 0 {
			continue
		}
		end := v.record.Lasted + 1 // never
		switch {
		case o.FirstByte > 0 && o.Asked > 0: // a flooder's is a refusal, and no end
			end = o.FirstByte
		case o.Ended > 0:
			end = o.Ended
		}
		if c.Ended >= end {
			return false
		}
	}
	return true
}

// many is the least number of clients for which the sentence describes how they were
// accepted.
const many = 20

// how describes what the trace shows of the server's way of working.
func (v *view) how(s *Server) string {
	if s.Untraced {
		return "Package net makes this server's system calls; the trace cannot show them."
	}
	var parts []string
	threads := 0
	for _, lane := range s.Lanes {
		for _, span := range lane.Spans {
			threads = max(threads, span.Many)
		}
	}
	if threads > 0 {
		parts = append(parts, fmt.Sprintf("Up to %s were blocked in read at the same time.",
			report.Plural(threads, "thread", "threads")))
	}
	if len(v.record.Clients) >= many && len(v.accepted) > 0 {
		parts = append(parts, fmt.Sprintf("At most %s open at the same time.",
			report.Plural(v.mostAccepted(), "connection was", "connections were")))
		if events, accepts := v.reports(); events > 0 {
			parts = append(parts, fmt.Sprintf("epoll_wait reported the listener %s for %d connections.",
				times(events), accepts))
		}
	}
	return strings.Join(parts, " ")
}

func all(n int) string {
	switch n {
	case 1:
		return "the one client that sent a request was"
	case 2:
		return "both clients that sent a request were"
	}
	return fmt.Sprintf("all %d clients that sent a request were", n)
}

func was(n int) string {
	if n == 1 {
		return "was"
	}
	return "were"
}

func times(n int) string {
	switch n {
	case 1:
		return "once"
	case 2:
		return "twice"
	}
	return fmt.Sprintf("%d times", n)
}

// list returns the first few names as in a sentence.
func list(names []string, most int) string {
	if len(names) > most+1 {
		return fmt.Sprintf("%s and %d others", strings.Join(names[:most], ", "), len(names)-most)
	}
	return report.List(names)
}

func capital(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

// span formats two times, as in "1.7 to 1.9 s", or one when they look the same.
func span(least, most time.Duration) string {
	a, b := length(least), length(most)
	if a == b {
		return a
	}
	numberA, unitA, _ := strings.Cut(a, " ")
	if _, unitB, _ := strings.Cut(b, " "); unitA == unitB {
		return numberA + " to " + b
	}
	return a + " to " + b
}

// length formats a time with two or three digits.
func length(d time.Duration) string {
	switch {
	case d >= 995*time.Millisecond:
		return fmt.Sprintf("%.2f s", d.Seconds())
	case d >= 9950*time.Microsecond:
		return fmt.Sprintf("%.0f ms", float64(d)/1e6)
	case d >= 100*time.Microsecond:
		return fmt.Sprintf("%.1f ms", float64(d)/1e6)
	}
	return fmt.Sprintf("%.0f µs", float64(d)/1e3)
}
