//go:build linux

package explore_test

import (
	"os"
	"os/exec"
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
			built, err := explore.Build(t.Context(), source(t, folder))
			if err != nil {
				t.Fatal(err)
			}
			defer built.Remove()
			r, err := built.Explore(t.Context(), explore.Options{
				Scenarios: scenariosOf(filepath.Base(folder)[:2]), Depth: 2, For: max(10*time.Second, forTime()), Faults: explore.Faults{Short: true, Errors: true},
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

func scenariosOf(number string) []explore.Scenario {
	var all []explore.Scenario
	for _, s := range explore.Scenarios() {
		if s.SideBySide && (number == "01" || number == "03" || number == "19") {
			continue
		}
		all = append(all, s)
	}
	return all
}

// source is the folder, or with PATCHED a copy of it with its patch.
func source(t *testing.T, folder string) string {
	if os.Getenv("PATCHED") == "" {
		return folder
	}
	dir := t.TempDir()
	for _, c := range []string{
		"cp " + folder + "/main.go " + folder + "/solution.patch " + dir,
		"cd " + dir + " && patch -s -p1 < solution.patch",
		"cp " + folder + "/../go.mod.txt " + dir + "/go.mod", "cp " + folder + "/../go.sum.txt " + dir + "/go.sum",
	} {
		if out, err := exec.Command("sh", "-c", c).CombinedOutput(); err != nil {
			t.Fatalf("%s: %s", c, out)
		}
	}
	return dir
}
