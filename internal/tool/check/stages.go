//go:build linux

package check

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"lesson/internal/progress"
)

// A Stage is one step on the way from an empty file to a server for which every
// case holds. docs/13-write-your-own.md follows the stages.
type Stage struct {
	Number  int    `json:"number"` // from 1
	Title   string `json:"title"`
	Must    string `json:"must"`    // what must hold from here on
	Why     string `json:"why"`     // what happens to clients otherwise
	Hint    string `json:"hint"`    // the smallest one
	Chapter string `json:"chapter"` // what to read: its file in the repository
	// Model is the least that the server must be from here on: one that waits for
	// one client at a time is judged as if it served several.
	Model Model    `json:"model"`
	Cases []string `json:"cases"` // addresses
	// Timed asks for Options.Timeout: without it, what the stage is about is not judged.
	Timed bool `json:"timed,omitempty"`
	// Edge asks for EPOLLET on the connections.
	Edge bool `json:"edge,omitempty"`
}

// Stages returns the stages in their order. Every case belongs to one of them.
func Stages() []Stage {
	all := slices.Clone(stages)
	for i := range all {
		all[i].Number = i + 1
	}
	return all
}

// Heading returns the heading of the stage's section in docs/13-write-your-own.md.
func (s Stage) Heading() string { return fmt.Sprintf("Stage %d: %s", s.Number, s.Title) }

// Markdown returns what the section begins with.
func (s Stage) Markdown() string {
	lines := []string{
		"> **" + s.Must + "** " + s.Why, "",
		"Judged by " + codes(s.Cases) + ".",
		fmt.Sprintf("Read [%s](%s).", strings.TrimSuffix(path.Base(s.Chapter), ".md"), path.Base(s.Chapter)),
		"", "<details><summary>Hint</summary>", "", s.Hint, "</details>",
	}
	if s.Edge {
		lines[2] = "Judged by the interest list: a connection must be in it with `EPOLLET`."
	}
	return strings.Join(lines, "\n")
}

func codes(names []string) string { return "`" + strings.Join(names, "`, `") + "`" }

var stages = []Stage{
	{
		Title:   "One client",
		Must:    "The server answers one client, byte for byte, and closes the connection.",
		Why:     "HTTP/1.0 marks the end of an answer by closing. A client waits until then.",
		Hint:    "socket, bind, listen, accept, read, write, close: one call after the other.",
		Chapter: oneClient, Model: Blocking,
		Cases: []string{"requests/whole", "requests/answer"},
	},
	{
		Title: "The end of the request",
		Must: "The server reads until an empty line, however the bytes arrive, and answers no" +
			" earlier.",
		Why: "TCP carries a stream of bytes. One write of the client may take many reads, and the" +
			" empty line may be cut anywhere.",
		Hint:    "Append each read to a buffer, and search the buffer for \\n\\n and \\n\\r\\n.",
		Chapter: oneClient, Model: Blocking,
		Cases: []string{
			"requests/bare-newlines", "requests/mixed-newlines", "requests/split-terminator",
			"requests/split-newlines", "requests/byte-by-byte", "requests/not-before-its-end",
			"requests/large", "requests/large-in-two", "requests/buffer-sizes", "requests/any-bytes",
			"requests/printed-safely",
		},
	},
	{
		Title: "The next client",
		Must: "The server accepts the next client when it has finished with one, and sleeps when" +
			" there is none.",
		Why: "A server that ends after its first client serves no second one.",
		Hint: "A loop around accept. Everything that belongs to a client begins inside it. When" +
			" read returns nothing, the client has gone: go on to the next.",
		Chapter: acceptLoop, Model: Loop,
		Cases: []string{
			"requests/no-leftovers", "disconnects/leaves-silently", "crowds/burst",
			"crowds/accept-queue", "resources/idle",
		},
	},
	{
		Title: "End of file and reset",
		Must:  "A client that leaves, at any moment and in any way, costs its own connection only.",
		Why: "Clients leave all day. A server that treats end of file as data spins; one that does" +
			" not expect ECONNRESET or EPIPE ends.",
		Hint:    "read returns 0 at end of file. Every call on a connection may fail: close it then.",
		Chapter: oneClient, Model: Loop,
		Cases: []string{
			"disconnects/end-of-file-mid-request", "disconnects/half-close-after-request",
			"disconnects/request-and-end-together", "disconnects/half-request-and-end-together",
			"disconnects/reset-before-request", "disconnects/reset-mid-request",
			"disconnects/reset-before-answer", "disconnects/end-and-reset-before-answer",
			"disconnects/reset-after-answer", "disconnects/close-before-answer",
			"disconnects/reset-in-accept-queue", "resources/idle-end-of-file",
			"resources/idle-reset",
		},
	},
	{
		Title: "The whole answer",
		Must:  "Every byte of the answer arrives, even when the client has sent more than it should.",
		Why: "The kernel sends a reset when a connection is closed with unread bytes in it, and the" +
			" client may then lose the answer.",
		Hint: "Send until nothing is left. Then shutdown(SHUT_WR), and read and discard until end" +
			" of file, within a bound.",
		Chapter: oneClient, Model: Loop,
		Cases: []string{
			"disconnects/body-with-request", "disconnects/second-request", "disconnects/late-body",
			"slow/full-send-buffer", "slow/short-write", "slow/half-close-while-full",
			"resources/idle-after-answer",
			"resources/descriptors-never-closes", "resources/descriptors-keeps-sending",
		},
	},
	{
		Title: "Many clients",
		Must:  "A client that does not finish its request keeps no other client waiting.",
		Why:   "One silent client would otherwise stop the server for all others.",
		Hint: "A thread for each connection is the shortest way. An event loop needs non-blocking" +
			" sockets, a state for each connection, and one place to wait: epoll_wait.",
		Chapter: levelTriggered, Model: Threaded,
		Cases: []string{
			"slow/half-request", "slow/many-half-requests", "slow/silent-client", "slow/dripping",
			"slow/full-send-buffer-others", "slow/unread-answer-others", "crowds/hundred", "crowds/burst-of-silent",
			"crowds/mixed", "crowds/patient", "crowds/beyond-1024", "resources/threads",
			"slow/room-and-bytes",
		},
	},
	{
		Title: "No spin, no leak",
		Must:  "The server sleeps while it waits, and keeps nothing of a client that has gone.",
		Why: "A spinning server still answers, but keeps a processor busy. A leaking one answers until" +
			" it has no descriptor or memory left, days later.",
		Hint: "Ask epoll only for what you can use now: EPOLLOUT only while an answer waits for" +
			" room. Close in one place, which every path reaches.",
		Chapter: levelTriggered, Model: Threaded,
		Cases: []string{
			"resources/idle-half-request", "resources/idle-full-send-buffer",
			"resources/descriptors-answered", "resources/descriptors-reset",
			"resources/descriptors-unsent",
			"resources/descriptors-end-of-file", "resources/memory", "resources/memory-of-leavers",
			"resources/memory-of-resets",
			"resources/idle-after-close", "resources/idle-reset-after-answer",
			"resources/idle-unread-answer", "resources/idle-lingering", "resources/idle-for-long",
			"resources/zombies", "resources/inherited-connections",
		},
	},
	{
		Title: "Greedy clients",
		Must: "A client that never stops sending uses up neither the other clients' turns nor the" +
			" server's memory.",
		Why:     "Fairness is the server's task: the kernel hands out whatever it is asked for.",
		Hint:    "Limit the size of a request, and how much one turn of the loop reads.",
		Chapter: misbehave, Model: Threaded,
		Cases: []string{
			"limits/oversize", "limits/endless", "fairness/flooder", "fairness/endless-request",
			"fairness/connector",
		},
	},
	{
		Title: "Deadlines",
		Must:  "A request that is not complete in time is given up, even if its bytes keep coming slowly.",
		Why: "Otherwise a few thousand clients that send a byte now and then hold every descriptor" +
			" of the server.",
		Hint: "One deadline for the whole request, not for each read. The nearest deadline is the" +
			" timeout of epoll_wait, rounded up.",
		Chapter: misbehave, Model: Threaded, Timed: true,
		Cases: []string{
			"slow/timeout", "slow/timeout-silent", "slow/timeout-dripping", "slow/timeout-under-load",
			"slow/stale-timer", "slow/stale-timeout", "resources/idle-until-timeout",
		},
	},
	{
		Title: "Out of descriptors",
		Must:  "The server continues to serve when accept fails with EMFILE, and accepts again when it can.",
		Why:   "The limit is reached on the busiest day. A server that ends then drops all clients.",
		Hint: "Do not call accept again at once: an event loop stops watching the listener, a thread" +
			" sleeps. Try again after a close, and in any case after a short while.",
		Chapter: runsOut, Model: Threaded,
		Cases: []string{
			"limits/descriptors-survives", "limits/descriptors-calm", "limits/descriptors-recovers",
			"limits/descriptors-raised", "limits/stale-event", "limits/accept-errors", "limits/no-thread",
			"slow/stale-thread",
		},
	},
	{
		Title: "Signals",
		Must: "SIGTERM or SIGINT ends the server soon, and no client that it has accepted and that" +
			" has sent its request goes without an answer.",
		Why: "Every deployment ends a server. A loop that sleeps must be woken for it: a flag that a" +
			" handler sets just before the loop sleeps is not seen until the next event.",
		Hint: "signalfd, or a pipe that the handler writes to, watched like every other descriptor;" +
			" with threads, shutdown on the sockets that block. EINTR is not a failure.",
		Chapter: levelTriggered, Model: Threaded,
		Cases: []string{
			"signals/terminate", "signals/interrupt", "signals/terminate-half-request",
			"signals/terminate-answers", "signals/terminate-unsent", "signals/stop-and-continue",
			"signals/before-the-wait", "signals/restart",
		},
	},
	{
		Title: "Edge-triggered",
		Must:  "The server waits with EPOLLET, and every case of the other stages still holds.",
		Why: "An edge reports bytes once. What the server leaves unread then is not reported" +
			" again until more arrives.",
		Hint:    "Accept, read and write until EAGAIN, or remember that there is more to do.",
		Chapter: edgeTriggered, Model: EventLoop, Edge: true,
	},
}

// A StageReport says how far a server has come.
type StageReport struct {
	*Report
	Stages  []Stage `json:"stages"`           // those that were asked for
	Reached int     `json:"reached"`          // how many of them hold, one after the other
	First   *Result `json:"first,omitempty"`  // the failing case of the next one
	Reason  string  `json:"reason,omitempty"` // why the next one does not hold, without a case
	All     int     `json:"all"`              // how many stages there are
	Before  *int    `json:"before,omitempty"` // Reached of the last run of this command

	timed bool // with Options.Timeout
}

// afterFailure is why a case of a stage is not judged.
const afterFailure = "a case before it fails"

// RunStages judges the target by the stages from 1 to `to`, and stops at the first
// that does not hold. Cases of the stages are judged side by side like those of Run;
// no case is judged any more once one before it, in the order of the stages, has failed.
func RunStages(ctx context.Context, target Target, o Options, to int) (*StageReport, error) {
	all := Stages()
	if to < 1 || to > len(all) {
		return nil, fmt.Errorf("no stage %d; there are %d", to, len(all))
	}
	r := &StageReport{Stages: all[:to], All: len(all), timed: o.Timeout > 0}
	var cases []Case
	stageOf, place := map[string]Stage{}, map[string]int64{}
	for _, stage := range r.Stages {
		for _, address := range stage.Cases {
			selected, err := Select([]string{address})
			if err != nil {
				return nil, err
			}
			stageOf[address], place[address] = stage, int64(len(cases))
			cases = append(cases, selected...)
		}
	}
	var last atomic.Int64 // the place of the case beyond which nothing is judged any more
	last.Store(int64(len(cases)))
	progress := o.Progress
	o.Progress = func(done, all int, result Result) {
		if result.Verdict == Fails {
			last.Store(min(last.Load(), place[result.Address]))
		}
		if progress != nil {
			progress(done, all, result)
		}
	}
	var err error
	r.Report, err = run(ctx, target, o, plan{
		cases: cases,
		skip:  func(c Case) bool { return place[c.Address] > last.Load() },
		least: func(c Case) Model { return stageOf[c.Address].Model },
	})
	if r.Report == nil || err != nil {
		return nil, err
	}
	r.judge()
	return r, nil
}

// judge counts the stages that hold.
func (r *StageReport) judge() {
	for _, stage := range r.Stages {
		if r.First, r.Reason = r.missing(stage); r.First != nil || r.Reason != "" {
			return
		}
		r.Reached++
	}
}

// missing returns what keeps a stage from holding: a case that fails, or a reason.
func (r *StageReport) missing(stage Stage) (first *Result, reason string) {
	judged := len(stage.Cases) == 0
	for _, result := range r.Results {
		if !slices.Contains(stage.Cases, result.Address) {
			continue
		}
		switch result.Verdict {
		case Fails:
			return &result, ""
		case NotJudged:
			reason = cmp.Or(reason, result.Reason)
		case Holds:
			judged = true
		}
	}
	switch {
	case !judged:
		return nil, cmp.Or(reason, "nothing was judged")
	case stage.Timed && !r.timed:
		return nil, "the server's time limit is not known; add {seconds} to its command, and" +
			" --timeout 1s to this one"
	case stage.Edge && !r.Edge:
		return nil, "no connection of this server is watched with EPOLLET"
	}
	return nil, ""
}

// Print writes a line for each stage up to the first that does not hold, and that
// one's failing case.
func (r *StageReport) Print(w io.Writer, o PrintOptions) {
	p := newPrinter(w, o)
	r.printHead(p)
	fmt.Fprintln(w)
	for i, stage := range r.Stages[:min(r.Reached+1, len(r.Stages))] {
		mark := p.green("holds")
		if i == r.Reached {
			mark = p.red("FAILS")
		}
		fmt.Fprintf(w, "%s  stage %2d of %d  %s\n", mark, stage.Number, r.All, stage.Title)
	}
	fmt.Fprintf(w, "\n%s\n\n", r.place())
	if r.Reached == len(r.Stages) {
		p.arrived(r)
		return
	}
	stage := r.Stages[r.Reached]
	if r.First != nil {
		p.failed(*r.First)
	} else {
		p.labelled(2, "reason", r.Reason)
	}
	fmt.Fprintln(w)
	p.stage(stage)
}

// place says how far the server has come, and how far it had come the last time.
func (r *StageReport) place() string {
	place := fmt.Sprintf("%d of %d stages hold", r.Reached, r.All)
	if r.Before != nil {
		place += fmt.Sprintf("; last time %d", *r.Before)
	}
	return place
}

// StageSection is the name of the section of the progress that keeps StageRecords.
const StageSection = "stages"

// StageRecords are how far servers have come, by the command that starts them.
type StageRecords map[string]StageRecord

// A StageRecord is how many stages of a server held when it was judged last.
type StageRecord struct {
	Reached int       `json:"reached"`
	Judged  time.Time `json:"judged"`
}

// Valid reports a number of stages that there cannot be.
func (r *StageRecords) Valid() error {
	for name, record := range *r {
		if record.Reached < 0 || record.Reached > len(stages) {
			return fmt.Errorf("%d stages of %q", record.Reached, name)
		}
	}
	return nil
}

// Remember keeps how far the server has come, and learns how far it had come before.
func (r *StageReport) Remember(file progress.File) error {
	records := StageRecords{}
	return file.Update(StageSection, &records, func() {
		before, known := records[r.Target]
		if known {
			r.Before = &before.Reached
		}
		reached := r.Reached
		if reached == len(r.Stages) { // those beyond were not asked for
			reached = max(reached, before.Reached)
		}
		records[r.Target] = StageRecord{Reached: reached, Judged: time.Now()}
	})
}

// arrived writes what comes after the last stage that was asked for.
func (p printer) arrived(r *StageReport) {
	if len(r.Stages) < r.All {
		fmt.Fprintf(p.w, "Next: stage %d, %s (omit --to, or raise it).\n",
			len(r.Stages)+1, strings.ToLower(Stages()[len(r.Stages)].Title))
		return
	}
	fmt.Fprintln(p.w, "All stages hold. Judge it once more with the same command without --stages.")
	fmt.Fprintln(p.w, "If it is in Go, you can also explore it: docs/14-every-order.md.")
}

// stage writes what a stage asks for, and its hint.
func (p printer) stage(s Stage) {
	p.labelled(2, "stage", s.Must)
	p.labelled(2, "why", s.Why)
	p.labelled(2, "hint", s.Hint)
	p.labelled(2, "read", fmt.Sprintf("%s, and stage %d in docs/13-write-your-own.md", s.Chapter, s.Number))
}
