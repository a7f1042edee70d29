//go:build linux

package check

import (
	"fmt"
	"slices"
	"time"

	"lesson/internal/progress"
)

// LastRunSection is the name of the section of the progress that keeps LastRuns.
const LastRunSection = "check"

// LastRuns are the last runs of all cases, by the command that starts the server.
type LastRuns map[string]LastRun

// A LastRun is what is remembered of a run.
type LastRun struct {
	Failing int       `json:"failing"` // cases
	Judged  time.Time `json:"judged"`  // when
}

// Valid reports a number of failing cases that there cannot be.
func (r *LastRuns) Valid() error {
	for name, run := range *r {
		if run.Failing < 0 {
			return fmt.Errorf("%d failing cases of %q", run.Failing, name)
		}
	}
	return nil
}

// Remember keeps how many cases fail, and learns how many failed before. A run that has
// not decided every case is not kept.
func (r *Report) Remember(file progress.File) error {
	decided := func(result Result) bool { return result.Verdict != "" }
	if r.Missing > 0 || len(r.Results) < len(Cases()) || !slices.ContainsFunc(r.Results, decided) {
		return nil
	}
	runs := LastRuns{}
	return file.Update(LastRunSection, &runs, func() {
		if before, known := runs[r.Target]; known {
			r.Before = &before
		}
		runs[r.Target] = LastRun{Failing: len(r.Failed()), Judged: time.Now()}
	})
}

// compared says how the number of failing cases has changed.
func (r *LastRun) compared(now int) string {
	if now == r.Failing {
		return fmt.Sprintf("%d failing, as in the last run", now)
	}
	return fmt.Sprintf("%d → %d failing since the last run", r.Failing, now)
}
