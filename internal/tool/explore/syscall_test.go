//go:build linux

package explore

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lesson/internal/proof"
)

func TestWithoutSyscall(t *testing.T) {
	for source, want := range map[string]string{
		"package main\nimport \"syscall\"\n":          "package main\nimport syscall \"golang.org/x/sys/unix\"\n",
		"package main\nimport s \"syscall\" // calls": "package main\nimport s \"golang.org/x/sys/unix\" // calls",
		"package main\nimport (\n\"fmt\"\n\"syscall\"\n)\nvar _ = \"syscall\"": "package main\nimport (\n\"fmt\"\n" +
			"syscall \"golang.org/x/sys/unix\"\n)\nvar _ = \"syscall\"",
		"package main\n": "package main\n",
	} {
		got, err := withoutSyscall([]byte(source))
		if err != nil || string(got) != want {
			t.Errorf("%q, %v; want %q", got, err, want)
		}
	}
	if _, err := withoutSyscall([]byte("import")); err == nil {
		t.Error("a file that is no Go source is accepted")
	}
}

func TestVersionOfSys(t *testing.T) {
	mod, err := os.ReadFile("../../../go.mod")
	proof.Must(t, err)
	if !strings.Contains(string(mod), sysModule+" "+sysVersion) {
		t.Errorf("go.mod does not require %s %s", sysModule, sysVersion)
	}
}

// A program on package syscall is explored like one on x/sys/unix, and is not changed.
func TestProgramOnSyscall(t *testing.T) {
	proof.OnlyExhaustive(t, "builds a program twice")
	text, err := os.ReadFile("../../../edgetriggered/small/main.go")
	proof.Must(t, err)
	source := strings.NewReplacer(`"golang.org/x/sys/unix"`, `"syscall"`,
		"unix.EPOLLET", "syscall.EPOLLET&0xffffffff", "unix.", "syscall.").Replace(string(text))
	dir := t.TempDir()
	proof.Must(t, os.WriteFile(filepath.Join(dir, "main.go"), []byte(source), 0o644))
	proof.Must(t, os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module server\n\ngo 1.26.0\n"), 0o644))
	build := exec.Command("go", "build", "-o", os.DevNull, ".")
	build.Dir = dir
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("it does not compile as it is: %s", out)
	}
	target, err := Folder(t.Context(), dir, []string{"{addr}"})
	proof.Must(t, err)
	defer func() { proof.Must(t, target.Close()) }()
	r, err := target.Explore(t.Context(), Options{Depth: 1, For: 20 * time.Second})
	proof.Must(t, err)
	if r.Failure == nil || r.Failure.Kind != "unbounded" {
		t.Fatalf("%+v, want what the shortcut \"Bound the request\" causes", r.Failure)
	}
	before, _, _ := strings.Cut(source, "syscall.Accept4")
	line := 1 + strings.Count(before, "\n")
	for _, step := range r.Story.Steps {
		if strings.HasPrefix(step.Text, "accept4") && step.Line != line {
			t.Errorf("accept4 in line %d, want %d", step.Line, line)
		}
	}
}
