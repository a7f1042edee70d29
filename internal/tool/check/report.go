//go:build linux

package check

import (
	"encoding/xml"
	"fmt"
	"io"
	"strings"
	"time"

	"lesson/internal/report"
)

// PrintOptions say how a report looks.
type PrintOptions struct {
	Colour  bool
	Width   int  // columns; 0 is 80
	Verbose bool // also the cases that hold, with the figures taken
}

// printer writes lines and remembers nothing: an error of the terminal is the
// terminal's.
type printer struct {
	w io.Writer
	o PrintOptions
	// first has, by cause, the case that was printed at length.
	first map[string]string
}

const (
	narrowest = 40
	widest    = 100
)

func newPrinter(w io.Writer, o PrintOptions) printer {
	if o.Width == 0 {
		o.Width = 80
	}
	o.Width = min(max(o.Width, narrowest), widest)
	return printer{w, o, map[string]string{}}
}

func (p printer) bold(text string) string  { return report.Paint(p.o.Colour, report.Bold, text) }
func (p printer) red(text string) string   { return report.Paint(p.o.Colour, report.BoldRed, text) }
func (p printer) green(text string) string { return report.Paint(p.o.Colour, report.Green, text) }
func (p printer) dim(text string) string   { return report.Paint(p.o.Colour, report.Dim, text) }

// labelled writes a text of several lines behind a label, in a column of its own.
func (p printer) labelled(indent int, label, text string) {
	const column = 7
	lead := strings.Repeat(" ", indent) + report.Pad(label, column)
	for _, line := range report.Hang(lead, report.Blanks(lead), report.PrintableLines(text), p.o.Width) {
		fmt.Fprintln(p.w, strings.TrimRight(line, " "))
	}
}

// Print writes the report: what the server looks like, each failing case at
// length, and how many hold.
func (r *Report) Print(w io.Writer, o PrintOptions) {
	live := NewLive(w, o)
	live.Head(r)
	if o.Verbose {
		live.p.all(r.Results)
	}
	for _, result := range r.Failed() {
		live.Decided(result)
	}
	live.end(r)
}

// A Live prints a report as it comes about.
type Live struct{ p printer }

// NewLive returns a Live that prints to w.
func NewLive(w io.Writer, o PrintOptions) *Live { return &Live{newPrinter(w, o)} }

// Head prints what the server looks like: Options.Seen.
func (l *Live) Head(r *Report) { r.printHead(l.p) }

// Decided prints a case if it fails: Options.Progress. Of several with one cause, only the
// first is printed at length.
func (l *Live) Decided(r Result) {
	if r.Verdict != Fails {
		return
	}
	fmt.Fprintln(l.p.w)
	first, known := l.p.first[r.Cause]
	switch {
	case r.Cause == "":
	case known:
		l.p.likeFirst(r, first)
		return
	default:
		l.p.first[r.Cause] = r.Address
	}
	l.p.failed(r)
}

// End prints what comes after the last case.
func (l *Live) End(r *Report) {
	if l.p.o.Verbose {
		l.p.all(r.Results)
	}
	l.end(r)
}

func (l *Live) end(r *Report) {
	l.p.reasons(r.Failed())
	fmt.Fprintln(l.p.w)
	l.p.summary(r)
}

// likeFirst writes a case that fails for the reason of one that was written before.
func (p printer) likeFirst(r Result, first string) {
	p.failedHead(r)
	p.labelled(2, "must", r.Must)
	p.labelled(2, "cause", "the same as for "+first)
}

// reasons lists the cases that fail for one reason, where there are several.
func (p printer) reasons(failed []Result) {
	by := map[string][]string{}
	for _, r := range failed {
		by[r.Cause] = append(by[r.Cause], r.Address)
	}
	for _, r := range failed {
		cases := by[r.Cause]
		if r.Cause == "" || len(cases) == 1 || cases[0] != r.Address {
			continue
		}
		fmt.Fprintln(p.w)
		text := fmt.Sprintf("%d fail for one reason: %s", len(cases), r.Cause)
		for _, line := range report.Wrap(text, p.o.Width) {
			fmt.Fprintln(p.w, line)
		}
		for _, address := range cases {
			fmt.Fprintf(p.w, "  %s\n", address)
		}
	}
}

func (r *Report) printHead(p printer) {
	fmt.Fprintln(p.w, p.bold(report.Printable(r.Target)))
	what := r.Seen
	if r.Guessed {
		what += fmt.Sprintf("\nmodel: %s (guessed; change it with --model)", r.Model)
	} else {
		what += fmt.Sprintf("\nmodel: %s, as given", r.Model)
	}
	p.labelled(2, "seen", what)
}

// PrintResult writes one case at length.
func PrintResult(w io.Writer, r Result, o PrintOptions) {
	p := newPrinter(w, o)
	if r.Verdict == Fails {
		p.failed(r)
		return
	}
	p.line(r)
}

// failed writes what was done up to the step that failed, what came of it, and
// what to do about it.
func (p printer) failed(r Result) {
	p.failedHead(r)
	p.labelled(2, "must", r.Must)
	p.labelled(2, "why", r.Why)
	fmt.Fprintln(p.w)
	for i, line := range r.Script[:r.Step] {
		mark := " "
		if i == r.Step-1 {
			mark = p.red("✗")
		}
		number := fmt.Sprintf("  %s %2d  ", mark, i+1)
		for _, part := range report.Hang(number, "        ", line, p.o.Width) {
			fmt.Fprintln(p.w, part)
		}
	}
	p.labelled(8, "got", r.Got)
	p.labelled(8, "want", r.Want)
	for _, line := range r.Process {
		p.labelled(8, "", line)
	}
	fmt.Fprintln(p.w)
	if r.Cause != "" {
		p.labelled(2, "cause", r.Cause)
	}
	p.labelled(2, "read", r.Chapter)
	p.labelled(2, "rule", r.rule())
}

func (p printer) failedHead(r Result) {
	fmt.Fprintf(p.w, "%s  %s  %s\n", p.red("FAILS"), p.bold(r.Address), p.dim("("+string(r.Severity)+")"))
}

// all writes a line for each case, group by group.
func (p printer) all(results []Result) {
	group := ""
	for _, r := range results {
		if r.Group() != group {
			group = r.Group()
			fmt.Fprintf(p.w, "\n%s\n", p.bold(group))
		}
		p.line(r)
	}
}

func (p printer) line(r Result) {
	mark := p.green("holds     ")
	switch r.Verdict {
	case Fails:
		mark = p.red("FAILS     ")
	case NotJudged:
		mark = p.dim("not judged")
	}
	fmt.Fprintln(p.w, strings.TrimRight(fmt.Sprintf("  %s  %-40s %s", mark, r.Address, p.dim(took(r))), " "))
	notes := r.Notes
	if r.Reason != "" {
		notes = []string{r.Reason}
	}
	for _, note := range notes {
		for _, line := range report.Wrap(note, p.o.Width-14) {
			fmt.Fprintf(p.w, "              %s\n", p.dim(line))
		}
	}
}

func took(r Result) string {
	if r.Took == 0 {
		return ""
	}
	return r.Took.Round(time.Millisecond).String()
}

// summary counts by group, and says why some were not judged.
func (p printer) summary(r *Report) {
	type count struct{ holds, judged int }
	var groups []string
	counts := map[string]*count{}
	reasons := map[string]int{}
	var order []string
	holds, fails := 0, 0
	for _, result := range r.Results {
		if result.Verdict == NotJudged {
			if reasons[result.Reason]++; reasons[result.Reason] == 1 {
				order = append(order, result.Reason)
			}
			continue
		}
		group := result.Group()
		if counts[group] == nil {
			counts[group] = new(count)
			groups = append(groups, group)
		}
		counts[group].judged++
		if result.Verdict == Holds {
			counts[group].holds++
			holds++
		} else {
			fails++
		}
	}
	for _, group := range groups {
		c := counts[group]
		line := fmt.Sprintf("  %-12s %2d of %2d hold", group, c.holds, c.judged)
		if c.holds < c.judged {
			line = p.red(line)
		}
		fmt.Fprintln(p.w, line)
	}
	verdict := fmt.Sprintf("%s, %s", report.Plural(holds, "case holds", "cases hold"), report.Plural(fails, "fails", "fail"))
	switch {
	case holds+fails == 0:
		verdict = "nothing was judged"
	case fails == 0:
		verdict = p.green(report.Plural(holds, "case holds", "cases hold") + ", none fails")
	case holds == 0:
		verdict = report.Plural(fails, "case fails", "cases fail") + ", none holds"
	}
	fmt.Fprintf(p.w, "\n%s (%.1f s)\n", verdict, r.Took.Seconds())
	if r.Before != nil {
		fmt.Fprintln(p.w, r.Before.compared(fails))
	}
	if r.Missing > 0 {
		fmt.Fprintf(p.w, "%s not judged: the run ended first\n", report.Plural(r.Missing, "case", "cases"))
	}
	for _, reason := range order {
		for _, line := range report.Wrap(fmt.Sprintf("%d not judged: %s", reasons[reason], reason), p.o.Width) {
			fmt.Fprintln(p.w, line)
		}
	}
}

// JUnit writes the report in the XML that build servers read.
func (r *Report) JUnit(w io.Writer) error {
	type message struct {
		Message string `xml:"message,attr"`
		Text    string `xml:",chardata"`
	}
	type testcase struct {
		Class   string   `xml:"classname,attr"`
		Name    string   `xml:"name,attr"`
		Seconds string   `xml:"time,attr"`
		Failure *message `xml:"failure,omitempty"`
		Skipped *message `xml:"skipped,omitempty"`
	}
	type testsuite struct {
		XMLName  xml.Name   `xml:"testsuite"`
		Name     string     `xml:"name,attr"`
		Tests    int        `xml:"tests,attr"`
		Failures int        `xml:"failures,attr"`
		Errors   int        `xml:"errors,attr"` // not judged because the run has ended
		Skipped  int        `xml:"skipped,attr"`
		Seconds  string     `xml:"time,attr"`
		Cases    []testcase `xml:"testcase"`
	}
	seconds := func(d time.Duration) string { return fmt.Sprintf("%.3f", d.Seconds()) }
	suite := testsuite{
		Name: report.Printable(r.Target), Tests: len(r.Results) + r.Missing, Errors: r.Missing, Seconds: seconds(r.Took),
	}
	for _, result := range r.Results {
		c := testcase{Class: result.Group(), Name: result.Address, Seconds: seconds(result.Took)}
		switch result.Verdict {
		case Fails:
			suite.Failures++
			var text strings.Builder
			newPrinter(&text, PrintOptions{}).failed(result)
			c.Failure = &message{Message: result.Must, Text: text.String()}
		case NotJudged:
			suite.Skipped++
			c.Skipped = &message{Message: result.Reason}
		}
		suite.Cases = append(suite.Cases, c)
	}
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	encoder := xml.NewEncoder(w)
	encoder.Indent("", "  ")
	if err := encoder.Encode(suite); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}

// Explain writes what a case is and does.
func (c Case) Explain(w io.Writer, o PrintOptions) {
	p := newPrinter(w, o)
	fmt.Fprintf(w, "%s  %s\n", p.bold(c.Address), p.dim("("+string(c.Severity)+")"))
	p.labelled(2, "must", c.Must)
	p.labelled(2, "why", c.Why)
	var models []string
	for _, m := range c.Models {
		models = append(models, string(m))
	}
	p.labelled(2, "for", strings.Join(models, ", "))
	fmt.Fprintln(w)
	for i, line := range c.Script(EventLoop) {
		for _, part := range report.Hang(fmt.Sprintf("  %2d  ", i+1), "      ", line, p.o.Width) {
			fmt.Fprintln(w, part)
		}
	}
	fmt.Fprintln(w)
	p.labelled(2, "cause", c.Cause)
	p.labelled(2, "read", c.Chapter)
	p.labelled(2, "rule", c.rule())
}
