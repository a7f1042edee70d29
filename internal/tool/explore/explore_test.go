//go:build linux

package explore_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lesson/internal/lesson"
	"lesson/internal/proof"
	"lesson/internal/tool/exercise"
	"lesson/internal/tool/explore"
)

// all are the faults that a server must survive.
var all = explore.Faults{Short: true, Errors: true}

// lessons returns the lessons that can be explored.
func lessons(t testing.TB) []*explore.Target {
	var targets []*explore.Target
	for _, l := range lesson.All() {
		if target, err := explore.Lesson(l); err == nil {
			targets = append(targets, target)
		}
	}
	if len(targets) != 3 {
		t.Fatalf("%d lessons can be explored, want 3", len(targets))
	}
	return targets
}

func TestNoOrderFailsALesson(t *testing.T) {
	options := explore.Options{Depth: 1, Faults: all}
	if proof.Exhaustive() {
		options.Depth, options.For = 3, 10*time.Second
	}
	for _, target := range lessons(t) {
		t.Run(target.Name, func(t *testing.T) {
			r, err := target.Explore(t.Context(), options)
			proof.Must(t, err)
			t.Logf("%d orders, %d states in %v", r.Executions, r.States, r.Took)
			passes(t, r)
		})
	}
}

// passes fails the test with the story of a failure.
func passes(t *testing.T, r *explore.Report) {
	t.Helper()
	if r.Failure != nil {
		var story strings.Builder
		r.Print(&story, 0)
		t.Error(story.String())
	}
}

// Of what cannot be explored, the reason is given.
func TestLessonsThatCannotBeExplored(t *testing.T) {
	for _, name := range []string{"blocking", "threaded", "netpoll"} {
		l, err := lesson.Find(name)
		proof.Must(t, err)
		if _, err := explore.Lesson(l); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// found is what is found in each exercise: a word that explore has for it. Those that
// are not here need what is not simulated: 18 a signal, 20 a thousand descriptors, 28 two
// threads that run at the same time, 29 connect. 25 and 27 cannot be built: see
// TestWhatCannotBeBuilt.
var found = map[int]string{
	1: "unanswered", 2: "spins", 3: "ended", 4: "cut", 5: "spins", 6: "unanswered",
	7: "unanswered", 8: "spins", 9: "starves", 10: "reset", 11: "spins", 12: "leak",
	13: "reset", 14: "ended", 15: "unanswered", 16: "unbounded", 17: "early", 19: "queue",
	21: "spins", 22: "unanswered", 23: "unanswered", 24: "spins",
	26: "unanswered",
}

// notSimulated are the exercises whose exploration ends with a call that is not simulated.
var notSimulated = []int{20, 29}

// varying are the exercises whose story can end in two ways. In 26 two goroutines sleep for
// a millisecond from the same virtual time on, and Go wakes either first.
var varying = []int{26}

// mostSteps returns how long the story of an exercise may be. That of 26 needs its steps: an
// eventfd is made, written and read, and two requests are read before that. Either client may
// be the one that is not answered, so neither can stop early.
func mostSteps(exercise int) int {
	if exercise == 26 {
		return 45
	}
	return 25
}

// Every exercise that can fail in simulation does, and none that is repaired.
func TestExercises(t *testing.T) {
	ordinary := []int{6} // each has to be built
	g, err := exercise.Carried()
	proof.Must(t, err)
	for _, e := range g.Exercises {
		if ofPackageNet := []int{25, 27}; slices.Contains(ofPackageNet, e.Number) {
			continue
		}
		t.Run(e.Name, func(t *testing.T) {
			if !slices.Contains(ordinary, e.Number) {
				proof.OnlyExhaustive(t, "builds the exercise, explores it until it fails, and its repair for 2 s")
			}
			t.Parallel()
			broken := unpacked(t, e.Name, false)
			want := found[e.Number]
			within := 2 * time.Minute // at most: it ends with what it finds
			if want == "" {
				within = 2 * time.Second // it is not found however long
			}
			r, err := broken.Explore(t.Context(), explore.Options{Depth: 2, For: within, Faults: all})
			proof.Must(t, err)
			switch {
			case slices.Contains(notSimulated, e.Number):
				if r.Failure == nil || r.Failure.Kind != "unsupported" {
					t.Errorf("%+v, want what is not simulated", r.Failure)
				}
			case want == "":
				passes(t, r)
			case r.Failure == nil:
				t.Errorf("nothing is found in %d orders", r.Executions)
			case r.Failure.Kind != want:
				t.Errorf("%s: %s; want %s", r.Failure.Kind, r.Failure.Text, want)
			case e.Number == 6 && !strings.Contains(r.Failure.Text, reportedIn(r.Story, "[5 IN]")):
				t.Errorf("%s; want the step that reported it", r.Failure.Text)
			case len(r.Story.Steps) > mostSteps(e.Number):
				t.Errorf("a story of %d steps, want at most %d", len(r.Story.Steps), mostSteps(e.Number))
			default:
				t.Logf("%s: %d orders, %d steps, %v", r.Failure.Kind, r.Executions, len(r.Story.Steps), r.Took)
				if r.Varies != slices.Contains(varying, e.Number) {
					t.Errorf("Varies: %v", r.Varies)
				}
				again, err := broken.Replay(t.Context(), r.Replay)
				proof.Must(t, err)
				switch {
				case again.Failure == nil || again.Failure.Kind != want:
					t.Errorf("replayed: %+v, want %s", again.Failure, want)
				case !r.Varies && *again.Failure != *r.Failure:
					t.Errorf("replayed: %+v, want %+v", again.Failure, r.Failure)
				}
			}
			if slices.Contains(notSimulated, e.Number) {
				return
			}
			options := explore.Options{Depth: 1, Faults: all}
			if proof.Exhaustive() {
				options.Depth, options.For = 2, 2*time.Second
			}
			r, err = unpacked(t, e.Name, true).Explore(t.Context(), options)
			proof.Must(t, err)
			passes(t, r)
		})
	}
}

// reportedIn names the last step that returned these events.
func reportedIn(story *explore.Story, events string) string {
	for _, step := range slices.Backward(story.Steps) {
		if strings.Contains(step.Text, events) {
			return fmt.Sprintf("reported in step %d,", step.Number)
		}
	}
	return "no such step"
}

// unpacked returns an exercise as a target, broken or repaired.
func unpacked(t *testing.T, name string, repaired bool) *explore.Target {
	folder, model, remove, err := exercise.Unpack(name, repaired)
	proof.Must(t, err)
	t.Cleanup(func() { proof.Must(t, remove()) })
	target, err := explore.Folder(t.Context(), folder, []string{"{addr}"})
	proof.Must(t, err)
	t.Cleanup(func() { proof.Must(t, target.Close()) })
	target.OneAtATime = model == lesson.Loop
	return target
}

func TestWhatCannotBeBuilt(t *testing.T) {
	for folder, want := range map[string]string{
		"no/such/folder":   "there is no folder",
		"explore_test.go":  "is no folder",
		".":                "is package explore",
		"../../../docs":    "is package docs",
		"../../../scripts": "no Go file is in",

		"../../../docs/exercises/25-taken-from-net": "main.go calls net.Listen(…)",
		"../../../docs/exercises/27-no-watermark":   "main.go calls net.ListenTCP(…)",
	} {
		if _, err := explore.Folder(t.Context(), folder, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", folder, err, want)
		}
	}
}

// What a newcomer's program lacks is said with what to do, and nothing of it is changed.
func TestWhatAProgramLacks(t *testing.T) {
	const module = "module server\n\ngo 1.26.0\n"
	ours, err := os.ReadFile("../../../go.mod")
	proof.Must(t, err)
	sums, err := os.ReadFile("../../../go.sum")
	proof.Must(t, err)
	for _, c := range []struct{ name, module, source, want string }{
		{"no module", "", "package main", "run: go mod init server && go mod tidy"},
		{"package net", module, "package main\nimport \"net\"\nfunc main() { net.Listen(\"\", \"\") }",
			"uses package net, and explore can only see calls that are made through golang.org/x/sys/unix; " +
				"for any other server, try: lesson check"},
		{"a name of package syscall", module,
			"package main\nimport \"syscall\"\nfunc main() { syscall.ForkLock.Lock() }",
			"undefined: syscall.ForkLock\nexplore builds it with golang.org/x/sys/unix in the place of syscall"},
		{"package net beside syscall", module,
			"package main\nimport (\"net/http\"; \"syscall\")\nvar _ = syscall.SIGTERM\n" +
				"func main() { http.ListenAndServe(\"\", nil) }",
			"uses package net, and explore can only see"},
		{"neither", module, "package main\nfunc main() {}", "does not use golang.org/x/sys/unix"},
		{"an error", string(ours),
			"package main\nimport \"golang.org/x/sys/unix\"\nfunc main() { unix.Close(fd) }",
			"does not compile:\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			proof.Must(t, os.WriteFile(filepath.Join(dir, "main.go"), []byte(c.source), 0o644))
			mod := filepath.Join(dir, "go.mod")
			if c.module != "" {
				proof.Must(t, os.WriteFile(mod, []byte(c.module), 0o644))
				proof.Must(t, os.WriteFile(filepath.Join(dir, "go.sum"), sums, 0o644))
			}
			_, err := explore.Folder(t.Context(), dir, nil)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
			if now, err := os.ReadFile(mod); err == nil && string(now) != c.module {
				t.Errorf("go.mod has become:\n%s", now)
			}
		})
	}
}

func TestReplayOfAnOrder(t *testing.T) {
	l, err := lesson.Find("loop")
	proof.Must(t, err)
	loop, err := explore.Lesson(l)
	proof.Must(t, err)
	r, err := loop.Replay(t.Context(), "silent:none:0")
	proof.Must(t, err)
	if r.Failure == nil || r.Failure.Kind != "unanswered" {
		t.Errorf("a loop with a silent client: %+v", r.Failure)
	}
	// A client that stops is not judged; one that it keeps waiting is.
	for text, fails := range map[string]bool{"one.a2:none:0": false, "two.a0:none:0": false, "two.a1:none:0": true} {
		r, err := loop.Replay(t.Context(), text)
		proof.Must(t, err)
		if fails != (r.Failure != nil) {
			t.Errorf("%s: %+v", text, r.Failure)
		}
	}
	for _, text := range []string{"two.c1:none:0", "two.a4:none:0", "two.ax:none:0", ".a1:none:0", "", "silent", "nosuch:none:0", "silent:nosuch:0", "silent:none:x", "silent:none:3.1-2.1"} {
		if _, err := loop.Replay(t.Context(), text); err == nil {
			t.Errorf("%q is accepted", text)
		}
	}
}

// A story has the line of each system call, and the state of the kernel.
func TestStory(t *testing.T) {
	l, err := lesson.Find("epoll")
	proof.Must(t, err)
	target, err := explore.Lesson(l)
	proof.Must(t, err)
	r, err := target.Replay(t.Context(), "one:none:0")
	proof.Must(t, err)
	var story strings.Builder
	r.Print(&story, 140)
	for _, want := range []string{
		"accept4(3) = 5", "epoll/eventloop.go:", `read(5, 16384 bytes) = 18 "GET / HTTP/1.0\r\n\r\n"`,
		"because 5: segment 1 of a (step ", "queue a | interest 3:IN | ready 3", "a reads end of file",
		"Nothing is wrong in this order.",
	} {
		if !strings.Contains(story.String(), want) {
			t.Errorf("the story lacks %q:\n%s", want, story.String())
		}
	}
}

// Orders and states a second of one processor. Use -cpu 1.
func BenchmarkOrders(b *testing.B) {
	for _, target := range lessons(b) {
		b.Run(target.Name, func(b *testing.B) {
			orders, states, before := 0, 0, used(b)
			for b.Loop() {
				r, err := target.Explore(b.Context(), explore.Options{Depth: 1, Faults: all})
				proof.Must(b, err)
				orders += r.Executions
				states += r.States
			}
			seconds := (used(b) - before).Seconds()
			b.ReportMetric(float64(orders)/seconds, "orders/cpu-s")
			b.ReportMetric(float64(states)/seconds, "states/cpu-s")
		})
	}
}

// used returns the processor time of this process: other processes do not count.
func used(t testing.TB) time.Duration {
	var u unix.Rusage
	proof.Must(t, unix.Getrusage(unix.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// Clients that a scenario does not have are like its last one.
func TestMoreClients(t *testing.T) {
	for _, target := range lessons(t) {
		t.Run(target.Name, func(t *testing.T) {
			r, err := target.Explore(t.Context(), explore.Options{Clients: 4, Faults: all})
			proof.Must(t, err)
			passes(t, r)
			names := make([]string, len(r.Covered))
			for i, c := range r.Covered {
				names[i] = c.Scenario
			}
			if !slices.Contains(names, "two@4") || slices.Contains(names, "queue") {
				t.Errorf("explored %q: want two@4, and not queue, which has 5 clients", names)
			}
			r, err = target.Replay(t.Context(), "two@4:none:0")
			proof.Must(t, err)
			var story strings.Builder
			r.Print(&story, 0)
			for _, client := range []string{"a", "b", "c", "d"} {
				if !strings.Contains(story.String(), client+" reads end of file") {
					t.Errorf("%s does not read to the end:\n%s", client, &story)
				}
			}
		})
	}
}
