//go:build linux

package explore

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/build"
	"go/format"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"lesson/internal/child"
	"lesson/internal/kernel"
	"lesson/internal/kernel/simulated"
	"lesson/internal/words"
)

// A program on golang.org/x/sys/unix is explored unchanged: it is built against a module
// of that name whose functions make their calls on the simulated kernel. The module
// holds, beside that package, the real one (for its constants and types), and the
// packages that explore.

//go:embed facade.go.txt
var facade string

// notSimulated are functions that must not reach the real kernel either.
var notSimulated = []string{
	"Connect", "TimerfdCreate", "Poll", "Ppoll", "Select", "Pselect", "Splice", "Sendfile",
	"Recvmsg", "RecvmsgBuffers", "Sendmsg", "SendmsgBuffers", "Readv", "Writev", "Socketpair",
	"Dup2", "Dup3", "FcntlInt", "Syscall", "Syscall6", "RawSyscall", "RawSyscall6",
}

// A Program of the learner's own, ready to be explored.
type Built struct {
	File string // the program
	Name string // of the folder
	dir  *child.Folder

	source map[string]string // of the folder: file by file, as steps name them
}

// Remove removes the program.
func (b *Built) Remove() error { return b.dir.Remove() }

// Build builds the main package in folder for exploring.
func Build(ctx context.Context, folder string) (*Built, error) {
	folder, err := filepath.Abs(folder)
	if err != nil {
		return nil, err
	}
	if err := findFolder(folder); err != nil {
		return nil, err
	}
	dir, err := child.Temporary("lesson-explore")
	if err != nil {
		return nil, err
	}
	b := &Built{File: filepath.Join(dir.Path, "program"), Name: filepath.Base(folder), dir: dir}
	if err := b.build(ctx, folder); err != nil {
		return nil, errors.Join(err, b.Remove())
	}
	return b, nil
}

func readSource(folder string) (map[string]string, error) {
	files, err := filepath.Glob(filepath.Join(folder, "*.go"))
	if err != nil {
		return nil, err
	}
	source := make(map[string]string)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		source[filepath.Join(filepath.Base(folder), filepath.Base(file))] = string(text)
	}
	return source, nil
}

// ofNet is a call that opens a socket of package net.
var ofNet = regexp.MustCompile(`\bnet\.(Listen|Dial)\w*\(`)

// opensNoSocket refuses a program that lets package net open a socket: it would be a real
// one, and the exploration would wait for it.
func opensNoSocket(pkg *goPackage, source map[string]string) error {
	if !slices.Contains(pkg.Imports, "net") {
		return nil
	}
	for _, file := range slices.Sorted(maps.Keys(source)) {
		if call := ofNet.FindString(source[file]); call != "" {
			return fmt.Errorf("%s calls %s…): package net makes its own system calls, and explore can only"+
				" see those that are made through golang.org/x/sys/unix", file, call)
		}
	}
	return nil
}

// A goPackage is what `go list -json` says of the folder.
type goPackage struct {
	Name         string
	GoFiles      []string
	TestGoFiles  []string
	XTestGoFiles []string
	Imports      []string
	Deps         []string
}

func findFolder(folder string) error {
	info, err := os.Stat(folder)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("there is no folder %s; try: lesson explore epoll", folder)
	case err != nil:
		return err
	case !info.IsDir():
		return fmt.Errorf("%s is no folder: explore needs the folder of a Go program", folder)
	}
	return nil
}

// inspect returns what is in folder, if it can be explored.
func (g goTool) inspect(ctx context.Context, folder string) (*goPackage, error) {
	files, err := filepath.Glob(filepath.Join(folder, "*.go"))
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("no Go file is in %s: explore needs the folder of a Go program", folder)
	}
	out, err := g.run(ctx, "list", "-e", "-json", ".")
	if err != nil {
		return nil, err
	}
	var pkg goPackage
	if err := json.Unmarshal(out, &pkg); err != nil {
		return nil, err
	}
	const see = "explore can only see calls that are made through golang.org/x/sys/unix"
	switch {
	case pkg.Name != "main":
		return nil, fmt.Errorf("%s is package %s; explore runs a program: package main", folder, pkg.Name)
	case slices.Contains(pkg.Deps, "golang.org/x/sys/unix"):
		return &pkg, nil
	case pkg.onSyscall() && !slices.Contains(pkg.Deps, "net"):
		return &pkg, nil
	case slices.Contains(pkg.Deps, "net"):
		return nil, fmt.Errorf("%s uses package net, and %s; for any other server, try: lesson check -- COMMAND",
			folder, see)
	}
	return nil, fmt.Errorf("%s does not use golang.org/x/sys/unix, and %s", folder, see)
}

// A goTool is the go command, run in a folder with a go.mod of its own: the learner's is
// not changed.
type goTool struct{ folder, modfile string }

// newGoTool copies the go.mod and go.sum that folder belongs to into dir.
func newGoTool(ctx context.Context, folder, dir string) (goTool, error) {
	g := goTool{folder: folder}
	out, err := g.run(ctx, "env", "GOMOD")
	if err != nil {
		return g, err
	}
	theirs := strings.TrimSpace(string(out))
	if theirs == "" || theirs == os.DevNull {
		return g, fmt.Errorf("%s is in no module: go.mod is missing; in that folder, "+
			"run: go mod init server && go mod tidy", folder)
	}
	g.modfile = filepath.Join(dir, "go.mod")
	text, err := os.ReadFile(theirs)
	if err == nil {
		err = os.WriteFile(g.modfile, text, 0o600)
	}
	if err != nil {
		return g, err
	}
	sums, err := os.ReadFile(strings.TrimSuffix(theirs, ".mod") + ".sum")
	if errors.Is(err, fs.ErrNotExist) {
		return g, nil
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "go.sum"), sums, 0o600)
	}
	return g, err
}

// replace lets the module of that path be taken from dir.
func (g goTool) replace(path, dir string) error {
	text, err := os.ReadFile(g.modfile)
	if err != nil {
		return err
	}
	return os.WriteFile(g.modfile, fmt.Appendf(text, "\nreplace %s => %s\n", path, dir), 0o600)
}

// run runs one go command and returns its output.
func (g goTool) run(ctx context.Context, command string, args ...string) ([]byte, error) {
	if g.modfile != "" {
		args = append([]string{"-modfile", g.modfile}, args...)
	}
	cmd := exec.CommandContext(ctx, "go", append([]string{command}, args...)...)
	cmd.Dir = g.folder
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=-mod=mod")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return nil, errors.New("explore builds the program, and there is no go on the PATH")
	case err != nil && command == "test":
		return nil, fmt.Errorf("%s does not compile:\n%s", g.folder, bytes.TrimSpace(stderr.Bytes()))
	case err != nil:
		return nil, fmt.Errorf("go %s: %w\n%s", command, err, bytes.TrimSpace(stderr.Bytes()))
	}
	return out, nil
}

// build writes the module that replaces x/sys, and builds the program with it.
func (b *Built) build(ctx context.Context, folder string) error {
	g, err := newGoTool(ctx, folder, b.dir.Path)
	if err != nil {
		return err
	}
	pkg, err := g.inspect(ctx, folder)
	if err != nil {
		return err
	}
	if b.source, err = readSource(folder); err != nil {
		return err
	}
	if err := opensNoSocket(pkg, b.source); err != nil {
		return err
	}
	out, err := g.findSys(ctx, pkg)
	if err != nil {
		return err
	}
	real, version, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	module, err := replacement(real, version)
	if err != nil {
		return err
	}
	if err := g.replace("golang.org/x/sys", module); err != nil {
		return err
	}

	overlay := struct{ Replace map[string]string }{map[string]string{
		filepath.Join(folder, "lesson_explore_test.go"): filepath.Join(b.dir.Path, "main_test.go"),
	}}
	if err := b.copyFiles(folder, pkg, overlay.Replace); err != nil {
		return err
	}
	for _, name := range slices.Concat(pkg.TestGoFiles, pkg.XTestGoFiles) {
		overlay.Replace[filepath.Join(folder, name)] = "" // its tests are not there
	}
	overlayText, err := json.Marshal(overlay)
	if err != nil {
		return err
	}
	overlayFile := filepath.Join(b.dir.Path, "overlay.json")
	if err := os.WriteFile(overlayFile, overlayText, 0o600); err != nil {
		return err
	}
	test := fmt.Sprintf(testMain, beginAll(len(pkg.GoFiles)))
	if err := os.WriteFile(filepath.Join(b.dir.Path, "main_test.go"), []byte(test), 0o600); err != nil {
		return err
	}
	_, err = g.run(ctx, "test", "-c", "-vet=off", "-overlay", overlayFile, "-o", b.File, ".")
	if err != nil && pkg.onSyscall() {
		return fmt.Errorf("%w\nexplore builds it with golang.org/x/sys/unix in the place of syscall", err)
	}
	return err
}

// testMain runs the program in a bubble of testing/synctest, which has a clock of its
// own: only a test can make one.
const testMain = `package main

import (
	"testing"
	"testing/synctest"

	"golang.org/x/sys/lesson/tool/explore"
)

func TestExplore(t *testing.T) {
	explore.OutsideTheBubble()
	synctest.Test(t, func(*testing.T) { explore.Child(lessonBegin, main, synctest.Wait) })
}

func lessonBegin() {
%s}
`

// replacement returns the folder of the module that replaces this version of x/sys. It
// is kept for the next time.
func replacement(real, version string) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	files := map[string]string{
		"go.mod":         "module golang.org/x/sys\n\ngo 1.26.0\n",
		"unix/facade.go": facade,
	}
	for folder, sources := range map[string]fs.ReadDirFS{
		"kernel": kernel.Sources, "kernel/simulated": simulated.Sources, "words": words.Sources, "tool/explore": Sources,
	} {
		if err := addSources(files, folder, sources); err != nil {
			return "", err
		}
	}
	sum := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(files)) {
		fmt.Fprintf(sum, "%s\n%s\n", name, files[name])
	}
	dir := filepath.Join(cache, "lesson", fmt.Sprintf("sys-%s-%.8x", version, sum.Sum(nil)))
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	return dir, writeModule(dir, real, files)
}

// addSources adds the files of one of our packages, with its imports as they are there.
func addSources(files map[string]string, folder string, sources fs.ReadDirFS) error {
	entries, err := sources.ReadDir(".")
	if err != nil {
		return err
	}
	for _, entry := range entries {
		text, err := fs.ReadFile(sources, entry.Name())
		if err != nil {
			return err
		}
		files["lesson/"+folder+"/"+entry.Name()] = strings.NewReplacer(
			`"golang.org/x/sys/unix"`, `unix "golang.org/x/sys/real"`,
			`"lesson/internal/`, `"golang.org/x/sys/lesson/`,
		).Replace(string(text))
	}
	return nil
}

// writeModule makes the module, all or nothing.
func writeModule(dir, real string, files map[string]string) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	temporary, err := os.MkdirTemp(filepath.Dir(dir), ".sys-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temporary) // nothing is left of it when all went well
	names, err := copyReal(filepath.Join(real, "unix"), filepath.Join(temporary, "real"))
	if err != nil {
		return err
	}
	files["unix/names.go"], err = aliases(names, files["unix/facade.go"])
	if err != nil {
		return err
	}
	for name, text := range files {
		file := filepath.Join(temporary, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			return err
		}
	}
	err = os.Rename(temporary, dir)
	if errors.Is(err, fs.ErrExist) { // another explore was faster
		return nil
	}
	return err
}

// exported are the names that a package exports, by kind.
type exported struct{ consts, types, values []string }

// copyReal copies the files of package unix for this system, and returns its names.
func copyReal(from, to string) (exported, error) {
	var names exported
	pkg, err := build.ImportDir(from, 0)
	if err != nil {
		return names, err
	}
	if err := os.MkdirAll(to, 0o755); err != nil {
		return names, err
	}
	for _, name := range slices.Concat(pkg.GoFiles, pkg.SFiles, pkg.HFiles) {
		text, err := os.ReadFile(filepath.Join(from, name))
		if err != nil {
			return names, err
		}
		if err := os.WriteFile(filepath.Join(to, name), text, 0o644); err != nil {
			return names, err
		}
		if !strings.HasSuffix(name, ".go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, text, parser.SkipObjectResolution)
		if err != nil {
			return names, err
		}
		names.add(file)
	}
	return names, nil
}

func (e *exported) add(file *ast.File) {
	for _, d := range file.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Recv == nil && d.Name.IsExported() && d.Type.TypeParams == nil {
				e.values = append(e.values, d.Name.Name)
			}
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				switch spec := spec.(type) {
				case *ast.TypeSpec:
					if spec.Name.IsExported() {
						e.types = append(e.types, spec.Name.Name)
					}
				case *ast.ValueSpec:
					for _, name := range spec.Names {
						switch {
						case !name.IsExported():
						case d.Tok == token.CONST:
							e.consts = append(e.consts, name.Name)
						default:
							e.values = append(e.values, name.Name)
						}
					}
				}
			}
		}
	}
}

// aliases is the source of a package that has the names of the real one, but for those
// that facade has.
func aliases(names exported, facade string) (string, error) {
	own, err := parser.ParseFile(token.NewFileSet(), "facade.go", facade, parser.SkipObjectResolution)
	if err != nil {
		return "", err
	}
	var ours exported
	ours.add(own)
	var b strings.Builder
	b.WriteString("package unix\n\nimport (\n\"golang.org/x/sys/lesson/tool/explore\"\nreal \"golang.org/x/sys/real\"\n)\n")
	group := func(keyword, format string, names []string) {
		fmt.Fprintf(&b, "%s (\n", keyword)
		for _, name := range names {
			if !slices.Contains(ours.values, name) && !slices.Contains(notSimulated, name) {
				fmt.Fprintf(&b, format, name)
			}
		}
		b.WriteString(")\n")
	}
	group("const", "%[1]s = real.%[1]s\n", names.consts)
	group("type", "%[1]s = real.%[1]s\n", names.types)
	group("var", "%[1]s = real.%[1]s\n", names.values)
	for _, name := range notSimulated {
		fmt.Fprintf(&b, "var %[1]s = explore.NotSimulated(real.%[1]s, %[2]q)\n", name, strings.ToLower(name))
	}
	text, err := format.Source([]byte(b.String()))
	return string(text), err
}
