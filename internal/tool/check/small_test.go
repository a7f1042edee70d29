//go:build linux

package check

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"lesson/internal/child"
	"lesson/internal/proof"
)

// smallLoops are the programs that chapters 4 and 5 begin with.
var smallLoops = []string{"epoll/small", "edgetriggered/small"}

// repaidIn are the chapters whose sections repay the shortcuts of a small loop.
var repaidIn = map[string][]string{
	"epoll/small":         {"docs/04-level-triggered.md"},
	"edgetriggered/small": {"docs/04-level-triggered.md", "docs/05-edge-triggered.md"},
}

var shortcutComment = regexp.MustCompile(`^// shortcut: ([a-z0-9/, -]+), repaid in "([^"]+)"$`)

// shortcuts returns what the comments of the program in folder confess: the cases that
// fail, sorted, and the sections that repay them. A comment that confesses in another form
// fails the test.
func shortcuts(t *testing.T, folder string) (cases, sections []string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, folder, "main.go"))
	proof.Must(t, err)
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if m := shortcutComment.FindStringSubmatch(line); m != nil {
			cases = append(cases, strings.Split(m[1], ", ")...)
			sections = append(sections, m[2])
		} else if strings.Contains(line, "shortcut:") {
			t.Errorf("%s: a shortcut in another form: %s", folder, line)
		}
	}
	if len(cases) == 0 {
		t.Fatalf("%s confesses no shortcut", folder)
	}
	slices.Sort(cases)
	return cases, sections
}

// confessed returns the cases that the program in folder says it fails, sorted.
func confessed(t *testing.T, folder string) []string {
	t.Helper()
	cases, _ := shortcuts(t, folder)
	return cases
}

const root = "../../.." // the repository

// Each section that a shortcut names is one of its chapters.
func TestSmallLoopsAreRepaid(t *testing.T) {
	for _, folder := range smallLoops {
		var chapters strings.Builder
		for _, file := range repaidIn[folder] {
			text, err := os.ReadFile(filepath.Join(root, file))
			proof.Must(t, err)
			chapters.Write(text)
		}
		_, sections := shortcuts(t, folder)
		for _, section := range sections {
			if !strings.Contains(chapters.String(), "\n### "+section+"\n") {
				t.Errorf("%s: no section %q in %s", folder, section, repaidIn[folder])
			}
		}
	}
}

// A small loop fails the cases that it confesses.
func TestSmallLoopsFailWhatTheyConfess(t *testing.T) {
	if proof.Exhaustive() {
		t.Skip("TestSmallLoopsConfessEverything judges by all cases")
	}
	sideBySide(t, smallLoops, func(t *testing.T, folder string) {
		cases := confessed(t, folder)
		// Patience is short: a client waits in vain in most of these cases.
		report := judgeSmall(t, folder, Options{Only: cases, Patience: time.Second})
		if failed := failing(report); !slices.Equal(failed, cases) {
			t.Errorf("fails %q, and confesses %q", failed, cases)
		}
	})
}

// A small loop is a server: it finds the end of a request however it is cut, serves many
// clients at once, survives clients that leave, and does not spin. That follows from the
// cases that it does not confess, so a test of what they are is enough.
func TestSmallLoopsServe(t *testing.T) {
	for _, folder := range smallLoops {
		for _, served := range []string{
			"requests/whole", "requests/split-terminator", "requests/byte-by-byte",
			"disconnects/leaves-silently", "disconnects/reset-mid-request",
			"slow/many-half-requests", "crowds/burst", "resources/idle-end-of-file",
		} {
			if slices.Contains(confessed(t, folder), served) {
				t.Errorf("%s confesses %s", folder, served)
			}
		}
	}
}

// Of all cases, a small loop fails those that it confesses, and no others.
func TestSmallLoopsConfessEverything(t *testing.T) {
	proof.OnlyExhaustive(t, "every case against both small loops: a minute")
	sideBySide(t, smallLoops, func(t *testing.T, folder string) {
		report := judgeSmall(t, folder, Options{Timeout: 2 * time.Second})
		cases := confessed(t, folder)
		if failed := failing(report); !slices.Equal(failed, cases) {
			t.Errorf("fails %q, and confesses %q", failed, cases)
		}
	})
}

// judgeSmall builds the program in folder and judges it.
func judgeSmall(t *testing.T, folder string, o Options) *Report {
	t.Helper()
	if proof.Detector {
		t.Skip("judges other programs, which the race detector does not see")
	}
	program := filepath.Join(t.TempDir(), "small")
	proof.Must(t, child.Build(t.Context(), filepath.Join(root, folder), program))
	o.Model = EventLoop
	if o.Timeout == 0 {
		o.Timeout = time.Second
	}
	report, err := Run(t.Context(), Target{Command: []string{program, "{addr}"}}, o)
	proof.Must(t, err)
	return report
}

// failing returns the addresses of the cases that fail, sorted.
func failing(report *Report) []string {
	var failed []string
	for _, r := range report.Failed() {
		failed = append(failed, r.Address)
	}
	slices.Sort(failed)
	return failed
}
