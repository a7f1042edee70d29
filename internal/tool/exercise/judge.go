//go:build linux

package exercise

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"lesson/internal/child"
	"lesson/internal/report"
	"lesson/internal/tool/check"
)

// A Judge says which cases of a server hold. The real one is Checker.
type Judge interface {
	// Build builds the program of the Go module in dir. The error is a
	// *child.BuildError when the module is wrong.
	Build(ctx context.Context, dir, program string) error
	Cases() []check.Case
	Run(context.Context, check.Target, check.Options) (*check.Report, error)
}

// Checker judges as `lesson check` does.
type Checker struct{}

// Build builds with the go command.
func (Checker) Build(ctx context.Context, dir, program string) error {
	return child.Build(ctx, dir, program)
}

// Cases is every case there is.
func (Checker) Cases() []check.Case { return check.Cases() }

// Run judges a server.
func (Checker) Run(ctx context.Context, t check.Target, o check.Options) (*check.Report, error) {
	return check.Run(ctx, t, o)
}

// ErrFails says that some case does not hold.
var ErrFails = errors.New("not solved yet")

// A Finding is what became of a copy that was judged, in two parts: the cases
// that the exercise is about, and all others that are asked of such a server.
type Finding struct {
	Exercise   string         `json:"exercise"`
	Dir        string         `json:"dir"`
	Model      check.Model    `json:"model"`
	BuildError string         `json:"build_error,omitempty"` // then nothing was judged
	About      []check.Result `json:"about"`
	Rest       []check.Result `json:"rest"`
	Solved     bool           `json:"solved"` // all cases hold
}

// CheckOptions say what Check shows.
type CheckOptions struct {
	JSON    bool // a Finding, and nothing else
	Verbose bool // the rest as fully as what the exercise is about, and likely causes
	Brief   bool // no rest while what the exercise is about fails
}

// Check builds the learner's copy, judges it, and shows first the cases that
// the exercise is about. It returns nil when all cases hold, ErrFails when one
// does not, and another error when they cannot be judged.
func (d *Desk) Check(ctx context.Context, name, dir string, o CheckOptions) error {
	e, dir, err := d.copyOf(name, dir)
	if err != nil {
		return err
	}
	return d.check(ctx, e, dir, o)
}

func (d *Desk) check(ctx context.Context, e Exercise, dir string, o CheckOptions) error {
	folder, err := child.Temporary("lesson-exercise")
	if err != nil {
		return err
	}
	defer func() { _ = folder.Remove() }() // what is left of it, the next start removes
	program := filepath.Join(folder.Path, e.Name)

	f := Finding{Exercise: e.Name, Dir: dir, Model: e.Kind.Model}
	err = d.Judge.Build(ctx, dir, program)
	var broken *child.BuildError
	if errors.As(err, &broken) {
		f.BuildError = broken.Output
		if o.JSON {
			return errors.Join(report.JSON(d.Out, f), err)
		}
		fmt.Fprint(d.Log, report.PrintableLines(strings.ReplaceAll(broken.Output, "\t", "    ")))
	}
	if err != nil {
		return err
	}

	target := check.Target{Name: e.Name, Command: e.command(program), Dir: folder.Path}
	f.About, err = d.run(ctx, e, target, e.Cases)
	if err != nil {
		return err
	}
	if !o.JSON {
		d.show(f.About, o.Verbose)
	}
	if !o.Brief || len(with(check.Fails, f.About)) == 0 {
		f.Rest, err = d.run(ctx, e, target, d.others(e))
		if err != nil {
			return err
		}
	}
	if !o.JSON {
		d.showRest(f.Rest, o.Verbose)
	}
	return d.conclude(e, f, o)
}

// run judges some cases, and returns their results in that order.
func (d *Desk) run(ctx context.Context, e Exercise, t check.Target, only []string) ([]check.Result, error) {
	if len(only) == 0 {
		return nil, nil // check.Options takes no case for all
	}
	o := check.Options{Model: e.Kind.Model, Only: only, Progress: d.Progress}
	report, err := d.Judge.Run(ctx, t, o)
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err() // whatever has been decided, others have not
	case err != nil:
		return nil, err
	}
	place := func(r check.Result) int { return slices.Index(only, r.Address) }
	slices.SortStableFunc(report.Results, func(a, b check.Result) int { return place(a) - place(b) })
	return report.Results, nil
}

// others are the cases that are asked of the exercise's kind of server, and that
// it is not about.
func (d *Desk) others(e Exercise) []string {
	var found []string
	for _, c := range d.Judge.Cases() {
		if e.asked(c) && !slices.Contains(e.Cases, c.Address) {
			found = append(found, c.Address)
		}
	}
	return found
}

// with is the results with that verdict.
func with(v check.Verdict, results []check.Result) []check.Result {
	return slices.DeleteFunc(slices.Clone(results), func(r check.Result) bool { return r.Verdict != v })
}

func addresses(results []check.Result) (found []string) {
	for _, r := range results {
		found = append(found, r.Address)
	}
	return found
}

// show shows results: those that fail at length. It leaves out their likely
// cause: to find that is the exercise, and hints are given one at a time.
func (d *Desk) show(results []check.Result, verbose bool) {
	before := check.Holds
	for i, r := range results {
		if i > 0 && (r.Verdict == check.Fails || before == check.Fails) {
			fmt.Fprintln(d.Out)
		}
		before = r.Verdict
		if !verbose {
			r.Cause = ""
		}
		check.PrintResult(d.Out, r, d.Print)
	}
}

// showRest shows the other cases in short: how many hold, and which do not.
func (d *Desk) showRest(results []check.Result, verbose bool) {
	if len(results) == 0 {
		return
	}
	failed := with(check.Fails, results)
	text := fmt.Sprintf("The rest: %d hold, %d fail", len(with(check.Holds, results)), len(failed))
	unjudged := with(check.NotJudged, results)
	if len(unjudged) > 0 {
		text += fmt.Sprintf(", %d not judged (%s)",
			len(unjudged), strings.Join(addresses(unjudged), ", "))
	}
	fmt.Fprintf(d.Out, "\n%s.\n", text)
	if verbose {
		d.show(results, verbose)
		return
	}
	for _, r := range failed {
		fmt.Fprintf(d.Out, "  %s\n    %s\n", r.Address, r.Must)
	}
	if len(failed) > 0 {
		fmt.Fprintln(d.Out, "--verbose shows them in full.")
	}
}

// conclude remembers what has been found, and says what comes next.
func (d *Desk) conclude(e Exercise, f Finding, o CheckOptions) error {
	all := append(slices.Clone(f.About), f.Rest...)
	failing := addresses(with(check.Fails, all))
	// What the exercise is about must have been seen to hold.
	unjudged := with(check.NotJudged, f.About)
	f.Solved = len(failing) == 0 && len(unjudged) == 0 && len(f.About) > 0
	err := d.Record.Update(e.Name, func(p *Progress) {
		p.Checked, p.Failing = time.Now(), failing
		if f.Solved && p.Solved.IsZero() {
			p.Solved = p.Checked
		}
	})
	if o.JSON {
		err = errors.Join(err, report.JSON(d.Out, f))
	}
	switch {
	case err != nil:
		return err
	case len(failing) > 0:
		return fmt.Errorf("%w: of %d cases, %d fail; for a hint, type: lesson exercise hint %s",
			ErrFails, len(all), len(failing), e.Name)
	case !f.Solved:
		return fmt.Errorf("cannot judge here whether %s is solved: %s", e.Name, reasons(unjudged))
	case !o.JSON:
		return d.congratulate(e, len(with(check.Holds, all)))
	}
	return nil
}

// reasons says why cases were not judged, each reason once.
func reasons(results []check.Result) string {
	var found []string
	for _, r := range results {
		if !slices.Contains(found, r.Reason) {
			found = append(found, r.Reason)
		}
	}
	return strings.Join(found, "; ")
}

// congratulate says that an exercise is solved, and names the next one that is
// not: the next in order, or the first.
func (d *Desk) congratulate(e Exercise, count int) error {
	progress, err := d.Record.All()
	if err != nil {
		return err
	}
	solution := "lesson exercise solution " + e.Name
	next := "That was the last one. You have solved them all."
	at := slices.IndexFunc(d.Gallery.Exercises, func(other Exercise) bool { return other.Name == e.Name })
	for i := range d.Gallery.Exercises {
		other := d.Gallery.Exercises[(at+1+i)%len(d.Gallery.Exercises)]
		if progress[other.Name].Stage() != Solved {
			start := "lesson exercise start " + other.Name
			width := max(len(solution), len(start))
			solution = report.Pad(solution, width)
			next = "  " + report.Pad(start, width) + "    the next one"
			break
		}
	}
	_, err = fmt.Fprintf(d.Out, `
All %d cases hold: %s is solved.

  %s    what others changed, and who else got it wrong
%s
`, count, e.Name, solution, next)
	return err
}

// Watch does what Check does, and again whenever a Go file in the copy changes, until ctx
// ends. It returns earlier only if there is no copy at the beginning.
// While a case fails that the exercise is about, the other cases are left out, so
// that its result comes soon.
func (d *Desk) Watch(ctx context.Context, name, dir string) error {
	e, dir, err := d.copyOf(name, dir)
	if err != nil {
		return err
	}
	for ctx.Err() == nil {
		d.checkUntilChanged(ctx, e, dir)
	}
	return nil
}

// checkUntilChanged checks once, and returns when the copy has changed. A change
// while the check runs ends it: it judges what is no more.
func (d *Desk) checkUntilChanged(ctx context.Context, e Exercise, dir string) {
	// main.go may be gone for a moment, and come back. A file that is quite new
	// is noticed with the next change of another: it cannot do much alone.
	files := append(goFiles(dir), filepath.Join(dir, "main.go"))
	before := check.LookAt(files...)
	checking, end := context.WithCancel(ctx)
	over := make(chan struct{})
	go func() {
		defer close(over)
		defer end()
		_, _ = check.AwaitChange(ctx, before, files...) // or ctx has ended: over, either way
	}()
	err := d.check(checking, e, dir, CheckOptions{Brief: true})
	if err != nil && checking.Err() == nil {
		fmt.Fprintln(d.Log, report.PrintableLines(err.Error()))
	}
	if checking.Err() == nil {
		fmt.Fprintf(d.Log, "\nwatching %s; to end: Ctrl-C\n", shown(dir))
	}
	<-over
	if ctx.Err() == nil {
		fmt.Fprintf(d.Log, "\n%s: changed\n\n", time.Now().Format(time.TimeOnly))
	}
}
