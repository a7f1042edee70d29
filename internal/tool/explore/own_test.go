//go:build linux

package explore_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"lesson/internal/tool/explore"
)

func TestExercises(t *testing.T) {
	folders, err := filepath.Glob("../../../docs/exercises/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	for _, folder := range folders {
		t.Run(filepath.Base(folder), func(t *testing.T) {
			if only := os.Getenv("ONLY"); only != "" && only != filepath.Base(folder)[:2] {
				t.Skip()
			}
			built, err := explore.Build(t.Context(), folder)
			if err != nil {
				t.Fatal(err)
			}
			defer built.Remove()
			r, err := built.Explore(t.Context(), explore.Options{
				Scenarios: explore.Scenarios(), Depth: 2, For: 10 * time.Second, Faults: explore.Faults{Short: true, Errors: true},
			}, []string{"server", "127.0.0.1:8080"})
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%d executions in %v: %.0f a second", r.Executions, r.Took, float64(r.Executions)/r.Took.Seconds())
			if r.Failure == nil {
				t.Log("NONE")
				return
			}
			t.Logf("%s: %s: %s (%d steps, %s)", r.Scenario, r.Failure.Kind, r.Failure.Text, len(r.Story.Steps), r.Replay)
			if os.Getenv("STORY") != "" {
				for i, step := range r.Story.Steps {
					t.Logf("%3d %s %v %s:%d", i+1, step.Text, step.Why, step.File, step.Line)
				}
			}
		})
	}
}
