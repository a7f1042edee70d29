//go:build linux

package tour

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"lesson/docs"
	"lesson/internal/book"
	"lesson/internal/child"
	"lesson/internal/observe/proc"
	"lesson/internal/observe/program"
	"lesson/internal/observe/trace"
)

// A childRun is a server that is a process of its own.
type childRun struct {
	server *child.Server
	once   sync.Once
	killed atomic.Bool
}

// notAllowed is why calls are not shown in many a container: the kernel's side is left.
const notAllowed = "the kernel does not let this program watch them"

// startProgram starts a program whose calls are the column's. name makes the name by
// which a source file is shown of where it lies.
func startProgram(p child.Program, c *column, name func(file string) string) (running, error) {
	p.Born = func(pid int) error {
		_, err := program.Watch(trace.NewRecorder(c.call), name, c.isForeign, pid) // until it ends
		if errors.Is(err, unix.EPERM) {
			c.cannotBeTraced(notAllowed)
			return nil
		}
		return err
	}
	s, err := p.Start(c.ctx)
	if err != nil {
		return nil, err
	}
	return &childRun{server: s}, nil
}

func (r *childRun) addr() netip.AddrPort { return r.server.Addr }
func (r *childRun) pid() int             { return r.server.Pid() }

// stop kills it: that it may not know how to stop is no matter of the tour.
func (r *childRun) stop() {
	r.once.Do(func() {
		r.killed.Store(true)
		_ = r.server.End() // end says whether it has ended
	})
}

func (r *childRun) end() error {
	how, success := r.server.Proc.Status()
	if err := r.server.End(); err != nil { // what it has started may live on
		return err
	}
	if success || r.killed.Load() {
		return nil
	}
	last := child.LastWords(r.server.Proc.Output())
	return fmt.Errorf("it ended: %s; its last lines: %s", how, last)
}

func (r *childRun) threads() int {
	n, err := proc.Threads(r.pid())
	if err != nil {
		return -1 // it has just ended
	}
	return n
}

// ownSources is the source files of the program that the tour was started with: where
// each lies, by the name by which it is shown. They are the only files of this
// machine that a page can read.
type ownSources struct {
	mu    sync.Mutex
	files map[string]string
}

// findSources asks the program itself, and takes the scripts that the command names. A program
// that is not there is an error.
func findSources(command []string) (map[string]string, error) {
	path, err := exec.LookPath(command[0])
	if err != nil {
		return nil, fmt.Errorf("there is no program to start: %w", err)
	}
	sources := map[string]string{}
	for _, file := range program.Sources(path, command[1:]...) {
		sources[shownAs(file)] = file
	}
	return sources, nil
}

// names returns the names of the files, sorted.
func (o *ownSources) names() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Sorted(maps.Keys(o.files))
}

// find returns where a file lies.
func (o *ownSources) find(name string) (file string, own bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	file, own = o.files[name]
	return file, own
}

// meet returns the name of a file from which the program has made a call, and whether it can be
// read. The files of a program in Python are known only when it runs them.
func (o *ownSources) meet(file string) (name string, own bool) {
	name = shownAs(file)
	o.mu.Lock()
	defer o.mu.Unlock()
	if path.Ext(file) == ".py" {
		o.files[name] = file
	}
	_, own = o.files[name]
	return name, own
}

// shownAs is a file with its folder: "server/main.go".
func shownAs(file string) string {
	return ownProgram + "/" + path.Join(path.Base(path.Dir(file)), path.Base(file))
}

// programColumn is a column with the server that the tour was started with.
func (t *Tour) programColumn(id string, j *journal) *column {
	command := t.options.Program
	c := newColumn(id, ownProgram, strings.Join(command, " "), t.sources.names(), j)
	c.start = func(c *column) (running, error) {
		name := func(file string) string {
			name, own := t.sources.meet(file)
			if own {
				c.gains(name)
			}
			return name
		}
		run, err := startProgram(child.Program{Name: ownProgram, Command: command}, c, name)
		if err == nil {
			c.withoutLines(program.WithoutLines(run.pid()))
		}
		return run, err
	}
	return c
}

// exerciseColumn is a column with one of the servers that are wrong on purpose.
func (t *Tour) exerciseColumn(id, name string, j *journal) (*column, error) {
	page, err := book.Find("exercises/" + name)
	if err != nil {
		return nil, notFound("no exercise %q", name).hint("lesson exercise list shows them all")
	}
	file := "exercise/" + name + "/main.go"
	c := newColumn(id, "exercise/"+name, page.Title, []string{file}, j)
	c.start = func(c *column) (running, error) {
		binary, err := t.builds.exercise(c.ctx, name)
		if err != nil {
			return nil, err
		}
		program := child.Program{Name: name, Command: []string{binary, "{addr}"}}
		return startProgram(program, c, func(string) string { return file })
	}
	return c, nil
}

// text is the source of a file that may be shown.
func (t *Tour) text(file string) (string, error) {
	if where, own := t.sources.find(file); own {
		text, err := os.ReadFile(where)
		return string(text), err
	}
	return book.Source(file)
}

// languageOf returns the language of a source file, by its name.
func languageOf(file string) string {
	if extension := strings.TrimPrefix(path.Ext(file), "."); extension != "py" {
		return extension
	}
	return "python"
}

// builds is the exercises that have been built, in a folder that is removed at the end.
type builds struct {
	mu    sync.Mutex
	dir   *child.Folder // nil before the first
	built map[string]string
}

// buildWithin bounds a build: the first may have to download golang.org/x/sys.
const buildWithin = 2 * time.Minute

// exercise returns the program of an exercise, and builds it unless that has been done.
func (b *builds) exercise(ctx context.Context, name string) (binary string, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if binary, built := b.built[name]; built {
		return binary, nil
	}
	if b.dir == nil {
		if b.dir, err = child.Temporary("lesson-tour"); err != nil {
			return "", err
		}
		b.built = map[string]string{}
	}
	if binary, err = buildExercise(ctx, name, filepath.Join(b.dir.Path, name)); err == nil {
		b.built[name] = binary
	}
	return binary, err
}

// close removes the programs. None is being built: the sessions have ended.
func (b *builds) close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	dir := b.dir
	b.dir, b.built = nil, nil
	if dir == nil {
		return nil
	}
	return dir.Remove()
}

func buildExercise(ctx context.Context, name, dir string) (string, error) {
	if _, err := exec.LookPath("go"); err != nil {
		return "", badRequest("an exercise has to be built, and there is no go command").
			hint("install Go, https://go.dev/dl/, and start the tour where `go version` answers")
	}
	files := map[string]string{
		"main.go": "exercises/" + name + "/main.go",
		"go.mod":  "exercises/go.mod.txt",
		"go.sum":  "exercises/go.sum.txt",
	}
	err := os.MkdirAll(dir, 0o755)
	for to, from := range files {
		if err == nil {
			var text []byte
			if text, err = fs.ReadFile(docs.Exercises, from); err == nil {
				err = os.WriteFile(filepath.Join(dir, to), text, 0o644)
			}
		}
	}
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, buildWithin)
	defer cancel()
	binary := filepath.Join(dir, "server")
	err = child.Build(ctx, dir, binary)
	var broken *child.BuildError
	switch {
	case errors.As(err, &broken):
		return "", badRequest("%s does not build:\n%s", name, broken.Output).
			hint("it needs golang.org/x/sys, from the module cache or the network")
	case err != nil:
		return "", badRequest("%s cannot be built: %v", name, err)
	}
	return binary, nil
}
