//go:build linux

package exercise

import (
	"errors"
	"flag"
	"fmt"
	"log"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"lesson/docs"
	"lesson/internal/child"
	"lesson/internal/proof"
	"lesson/internal/tool/check"
)

// TestMain lets the tests that judge wait side by side, except in the exhaustive run.
func TestMain(m *testing.M) {
	if !proof.Exhaustive() {
		if err := flag.Set("test.parallel", "4"); err != nil {
			log.Fatal(err)
		}
	}
	os.Exit(m.Run())
}

// root is the repository, from this folder.
const root = "../../.."

// carried is the gallery of the repository. That it loads is proof that every
// README has the shape that it must have.
func carried(t *testing.T) *Gallery {
	t.Helper()
	g, err := Carried()
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// A copy is built with the version of golang.org/x/sys that the exercises are
// built and judged with here.
func TestCopiesHaveTheRepositorysVersions(t *testing.T) {
	version := func(file, pattern string) string {
		found := regexp.MustCompile(pattern).FindStringSubmatch(read(t, root, file))
		if found == nil {
			t.Fatalf("%s has no line %s", file, pattern)
		}
		return found[1]
	}
	const goLine, sysLine = `(?m)^go (\S+)$`, `(?m)^(?:require )?\s*golang\.org/x/sys (\S+)`
	for _, pattern := range []string{goLine, sysLine} {
		ours, copies := version("go.mod", pattern), version("docs/exercises/go.mod.txt", pattern)
		if ours != copies {
			t.Errorf("docs/exercises/go.mod.txt has %s, go.mod %s", copies, ours)
		}
	}
	sys := "golang.org/x/sys " + version("go.mod", sysLine)
	var sums string
	for line := range strings.Lines(read(t, root, "go.sum")) {
		if strings.HasPrefix(line, sys+" ") || strings.HasPrefix(line, sys+"/") {
			sums += line
		}
	}
	if got := read(t, root, "docs/exercises/go.sum.txt"); got != sums {
		t.Errorf("docs/exercises/go.sum.txt is\n%s\nwant, from go.sum,\n%s", got, sums)
	}
}

// What one can read of an exercise before it is built.
func TestExercises(t *testing.T) {
	known := check.Cases()
	for i, e := range carried(t).Exercises {
		if e.Number != i+1 {
			t.Errorf("%s: number %d is missing", e.Name, i+1)
		}
		patched, err := e.Patched()
		if err != nil {
			t.Error(err)
		} else if patched == e.Source {
			t.Errorf("%s/solution.patch changes nothing", e.Name)
		}
		for _, header := range []string{"--- a/main.go\n", "+++ b/main.go\n"} {
			if !strings.Contains(e.Patch, header) {
				t.Errorf("%s/solution.patch has no line %q", e.Name, header)
			}
		}
		if _, err := docs.Chapters.ReadFile(e.Kind.Chapter); err != nil {
			t.Error(err)
		}
		for j, address := range slices.Concat(e.Cases, e.Unasked) {
			at := slices.IndexFunc(known, func(c check.Case) bool { return c.Address == address })
			switch {
			case at < 0:
				t.Errorf("%s/cases.txt: there is no case %s", e.Name, address)
			case !slices.Contains(known[at].Models, e.Kind.Model):
				t.Errorf("%s/cases.txt: %s is not asked of a %s server", e.Name, address, e.Kind.Model)
			case slices.Contains(slices.Concat(e.Cases, e.Unasked)[:j], address):
				t.Errorf("%s/cases.txt: %s is there twice", e.Name, address)
			}
		}
	}
}

var fenced = regexp.MustCompile("(?ms)^```.*?^```$")

// A copy can be begun in Chinese, with what its README has in English: the symptom, the
// kind of server, and the same commands, but neither a hint nor the solution.
func TestCopiesInChinese(t *testing.T) {
	for _, e := range carried(t).Exercises {
		r, err := e.in(docs.Chinese)
		if err != nil {
			t.Error(err)
			continue
		}
		task := e.task(r)
		wants(t, e.Name, task, r.title, "docs/zh/"+e.Kind.Chapter, "lesson exercise check "+e.Name)
		if strings.Contains(task, "](../") {
			t.Errorf("%s: a link that leads nowhere from the copy is in\n%s", e.Name, task)
		}
		if got, want := fenced.FindAllString(task, -1), fenced.FindAllString(e.readme.look, -1); !slices.Equal(got, want) {
			t.Errorf("%s: the commands are %q, want %q", e.Name, got, want)
		}
		if quote := strings.ReplaceAll(r.quote, "\n", "\n> "); quote == "" || !strings.Contains(task, "\n> "+quote+"\n") {
			t.Errorf("%s: the symptom is %q, and the copy has\n%s", e.Name, quote, task)
		}
		for _, hidden := range append(r.hints, r.solution) {
			if hidden == "" || strings.Contains(task, hidden) {
				t.Errorf("%s: %q is a hint or the solution, and the copy has\n%s", e.Name, hidden, task)
			}
		}
	}
}

// A link in a README of an exercise leads to a file.
func TestLinks(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#]+)[^)]*\)`)
	for _, e := range carried(t).Exercises {
		folder := filepath.Join(root, "docs", "exercises", e.Name)
		for _, m := range link.FindAllStringSubmatch(read(t, folder, "README.md"), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join(folder, m[1])); err != nil {
				t.Errorf("%s/README.md: the link to %s leads nowhere", e.Name, m[1])
			}
		}
	}
}

// A case names exercises that list it in their cases.txt, or says why there is none.
func TestCasesAndExercisesAgree(t *testing.T) {
	g := carried(t)
	for _, c := range check.Cases() {
		for _, name := range c.Exercises() {
			e, err := g.Find(name)
			if err != nil || e.mark(c) == "" {
				t.Errorf("FailedBy of %s has %s, whose cases.txt does not list it (%v)", c.Address, name, err)
			} else if slices.Contains(e.Sometimes, c.Address) {
				t.Errorf("FailedBy of %s has %s, which fails it only sometimes", c.Address, name)
			}
		}
		switch {
		case g.caught(c) && c.NoExercise != "":
			t.Errorf("%s has NoExercise, and an exercise fails it", c.Address)
		case !g.caught(c) && c.NoExercise == "":
			t.Errorf("no exercise fails %s, and NoExercise does not say why", c.Address)
		}
	}
}

// A suspect is a server to judge, with the exercises that it is in.
type suspect struct {
	names    []string // "06-one-read-per-edge", or with " (patched)"
	source   string
	model    check.Model
	folder   string // and name of its program
	starts   func(program string) []string
	fails    []string
	may      []string // may fail, hold, or find no situation to judge: it is in fails, too
	only     []string // judged by these cases; nil is all of them
	repaired bool
}

// suspects are all servers of the gallery, each once: two exercises with servers
// of the same kind may become the same when they are fixed. What they are judged by
// is what shows adds up.
func suspects(t *testing.T, g *Gallery, shows func(Exercise) []string) []*suspect {
	t.Helper()
	var all []*suspect
	repaired := make(map[string]*suspect) // by model and source
	for _, e := range g.Exercises {
		patched, err := e.Patched()
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, &suspect{
			names: []string{e.Name}, source: e.Source, model: e.Kind.Model, folder: e.Name,
			fails: e.Cases, may: e.Sometimes, only: shows(e), starts: e.command,
		})
		key := string(e.Kind.Model) + "\n" + patched
		if repaired[key] == nil {
			repaired[key] = &suspect{
				source: patched, model: e.Kind.Model, folder: e.Name + "-patched", repaired: true,
				starts: e.command,
			}
			all = append(all, repaired[key])
		}
		repaired[key].names = append(repaired[key].names, e.Name+" (patched)")
		repaired[key].only = append(repaired[key].only, shows(e)...)
	}
	// A case that fails takes long. The server that fails most of them comes first, so
	// that nothing else waits for it in the end.
	slices.SortStableFunc(all, func(a, b *suspect) int { return len(b.fails) - len(a.fails) })
	return all
}

// everything is all cases that are asked of an exercise.
func everything(e Exercise) []string {
	if len(e.Unasked) == 0 {
		return nil
	}
	var asked []string
	for _, c := range check.Cases() {
		if !slices.Contains(e.Unasked, c.Address) && (e.proxy() || !c.OfProxies()) {
			asked = append(asked, c.Address)
		}
	}
	return asked
}

// essence is the case that an exercise is about.
func essence(e Exercise) []string { return e.Cases[:1:1] }

// buildAll builds the suspects and returns the folder of the programs, which are links to
// one: to link a program takes longer than to compile it.
func buildAll(t *testing.T, g *Gallery, all []*suspect) string {
	t.Helper()
	module, programs := t.TempDir(), t.TempDir()
	write(t, g.goMod, module, "go.mod")
	write(t, g.goSum, module, "go.sum")
	asPackage := strings.NewReplacer("\npackage main\n", "\npackage server\n", "\nfunc main() {", "\nfunc Main() {")
	var imports, table strings.Builder
	for i, s := range all {
		proof.Must(t, os.Mkdir(filepath.Join(module, s.folder), 0o755))
		write(t, asPackage.Replace(s.source), module, s.folder, "server.go")
		fmt.Fprintf(&imports, "import s%d %q\n", i, "exercise/"+s.folder)
		fmt.Fprintf(&table, "%q: s%d.Main,\n", s.folder, i)
		proof.Must(t, os.Symlink("one", filepath.Join(programs, s.folder)))
	}
	write(t, "package main\nimport (\"os\"; \"path\")\n"+imports.String()+
		"var programs = map[string]func(){\n"+table.String()+"}\n"+
		"func main() { programs[path.Base(os.Args[0])]() }\n", module, "main.go")
	err := child.Build(t.Context(), module, filepath.Join(programs, "one"), "-trimpath")
	var broken *child.BuildError
	if errors.As(err, &broken) {
		t.Fatal(broken.Output)
	}
	proof.Must(t, err)
	return programs
}

// skipJudging skips what takes long.
func skipJudging(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("judges real servers")
	}
	if proof.Detector {
		t.Skip("the servers are other programs, and the race detector sees only this one")
	}
}

// TestVerdicts is the proof of the checker and of the exercises: a server with a bug
// fails the cases that its exercise names, and a server whose bug is fixed passes them.
func TestVerdicts(t *testing.T) {
	skipJudging(t)
	if proof.Exhaustive() {
		t.Skip("TestAllVerdicts judges the same servers by all cases")
	}
	verdicts(t, essence)
}

// A server with a bug fails the cases that its exercise names and no others, and a
// server whose bug is fixed fails none.
func TestAllVerdicts(t *testing.T) {
	skipJudging(t)
	proof.OnlyExhaustive(t, "every exercise against every case, broken and repaired; some minutes")
	verdicts(t, everything)
}

func verdicts(t *testing.T, shows func(Exercise) []string) {
	g := carried(t)
	all := suspects(t, g, shows)
	programs := buildAll(t, g, all)
	const sideBySide = 3 // a check mostly waits
	places := make(chan struct{}, sideBySide)
	for _, s := range all {
		t.Run(strings.Join(s.names, ", "), func(t *testing.T) {
			t.Parallel()
			places <- struct{}{}
			defer func() { <-places }()
			s.judge(t, programs)
		})
	}
}

func (s *suspect) judge(t *testing.T, programs string) {
	target := check.Target{Command: s.starts(filepath.Join(programs, s.folder)), Dir: programs}
	o := check.Options{Model: s.model, Only: s.only}
	fails := func(address string) bool { return slices.Contains(s.fails, address) }
	switch {
	case s.only != nil && !slices.ContainsFunc(s.only, func(a string) bool { return !fails(a) }):
		o.Patience = time.Second // it fails, however short a client's patience is
	case len(s.fails) > 0:
		o.Patience = 2 * time.Second // most clients wait in vain
	}
	complaints := s.complaints(t, target, o)
	// What a bug does depends on the order of events, and that on what else the machine does:
	// a server with a bug is judged again. One that is fixed is not.
	const tries = 3
	for try := 1; try < tries && len(complaints) > 0 && !s.repaired; try++ {
		t.Logf("judged again: %s", slices.Sorted(maps.Values(complaints)))
		o.Only = slices.Sorted(maps.Keys(complaints))
		again := s.complaints(t, target, o)
		maps.DeleteFunc(complaints, func(address, _ string) bool { return again[address] == "" })
	}
	for _, address := range slices.Sorted(maps.Keys(complaints)) {
		t.Error(complaints[address])
	}
}

// ofFew is the real judge, with one case beside those that an exercise is about.
type ofFew struct{ Checker }

func (ofFew) Cases() []check.Case {
	return slices.DeleteFunc(check.Cases(), func(c check.Case) bool { return c.Address != "requests/whole" })
}

// A learner's way with the real judge: the copy fails, is fixed, and passes.
func TestSolveOne(t *testing.T) {
	skipJudging(t)
	t.Parallel()
	s := newScene(t)
	s.Gallery, s.Judge = carried(t), ofFew{}
	e := slices.MinFunc(s.Gallery.Exercises, func(a, b Exercise) int { return len(a.Cases) - len(b.Cases) })
	if err := s.Start(e.Name, s.parent); err != nil {
		t.Fatal(err)
	}
	s.out.take()
	if err := s.Check(t.Context(), e.Name, "", CheckOptions{}); !errors.Is(err, ErrFails) {
		t.Fatalf("%v, want %v", err, ErrFails)
	}
	wants(t, "as it was", s.out.take(), "FAILS  "+e.Cases[0], "The rest: ", ", 0 fail")

	patched, err := e.Patched()
	if err != nil {
		t.Fatal(err)
	}
	write(t, patched, s.parent, e.Name, "main.go")
	if err := s.Check(t.Context(), e.Name, "", CheckOptions{}); err != nil {
		t.Errorf("fixed: %v\n%s", err, s.out.take())
	}
	if got := s.stage(t, e.Name); got != Solved {
		t.Errorf("fixed: stage %q", got)
	}
}

// complaints judges the server, and says where the report is not what it must be: in which
// cases, by their addresses.
func (s *suspect) complaints(t *testing.T, target check.Target, o check.Options) map[string]string {
	report, err := check.Run(t.Context(), target, o)
	proof.Must(t, err)
	complaints := map[string]string{}
	if s.only == nil {
		for _, address := range s.fails {
			complaints[address] = address + " is not in the report"
		}
	}
	for _, r := range report.Results {
		delete(complaints, r.Address)
		switch {
		case slices.Contains(s.may, r.Address):
		case slices.Contains(s.fails, r.Address):
			if r.Verdict != check.Fails {
				complaints[r.Address] = fmt.Sprintf("%s: %s %s; cases.txt says that it fails",
					r.Address, r.Verdict, r.Reason)
			}
		case r.Verdict == check.Fails:
			var text strings.Builder
			check.PrintResult(&text, r, check.PrintOptions{})
			complaints[r.Address] = "not in cases.txt: " + text.String()
		case r.Verdict == check.NotJudged && s.repaired && slices.Contains(r.Models, s.model) && !excused(r):
			complaints[r.Address] = fmt.Sprintf("%s is not judged: %s", r.Address, r.Reason)
		}
	}
	return complaints
}

// excused reports whether a case may stay without a verdict: the servers of the gallery
// have no timeout for requests, and the many connections of these tests can fill the
// kernel's table of connections in TIME_WAIT (net.ipv4.tcp_max_tw_buckets), so that
// nothing is in the way of a restart. All are in Go.
func excused(r check.Result) bool {
	return slices.Contains([]string{
		"slow/timeout", "slow/timeout-silent", "slow/timeout-dripping", "slow/timeout-under-load",
		"slow/stale-timeout",
		"resources/idle-until-timeout", "signals/restart",
		"limits/no-thread", // the runtime of Go ends the program
	}, r.Address)
}
