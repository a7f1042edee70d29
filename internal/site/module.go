package site

import (
	"bytes"
	"compress/gzip"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"lesson/blocking"
	"lesson/docs"
	"lesson/edgetriggered"
	"lesson/epoll"
	"lesson/internal/kernel"
	"lesson/internal/kernel/simulated"
	"lesson/internal/protocol"
	"lesson/internal/server"
	"lesson/internal/tool/explore"
	"lesson/internal/words"
	"lesson/threaded"
)

// The lessons are compiled for the browser as a module of their own, from the source
// that this program has embedded: no clone is needed, and no network. The copies differ
// from the source in one line, the build constraint.

var (
	//go:embed wasm/main.go
	wasmMain string
	//go:embed unix/unix.go
	unixPackage string
)

// packages are the folders of the module that are copied.
var packages = map[string]fs.ReadDirFS{
	"blocking":                  blocking.Source,
	"threaded":                  threaded.Source,
	"epoll":                     epoll.Source,
	"edgetriggered":             edgetriggered.Source,
	"internal/protocol":         protocol.Sources,
	"internal/server":           server.Sources,
	"internal/kernel":           kernel.Sources,
	"internal/kernel/simulated": simulated.Sources,
	"internal/tool/explore":     explore.Sources,
	"internal/words":            words.Sources,
}

// leftOut are files of them that need more than a browser has.
var leftOut = []string{"threaded/netpoll.go", "internal/tool/explore/child.go",
	"internal/tool/explore/search.go"}

const (
	goMod = "module lesson\n\ngo 1.26.0\n\nrequire golang.org/x/sys v0.0.0\n\n" +
		"replace golang.org/x/sys => ./sys\n"
	sysMod = "module golang.org/x/sys\n\ngo 1.26.0\n"
)

// forBrowsers makes the copy of a source file: its lines keep their numbers.
var forBrowsers = strings.NewReplacer("//go:build linux\n", "//go:build linux || js\n")

// asPackage makes a package of an exercise, whose clock is that of the simulated kernel.
var asPackage = strings.NewReplacer("//go:build linux\n", "//go:build linux || js\n",
	"\npackage main\n", "\npackage exercise\n", "\nfunc main() {", "\nfunc Main() {",
	"time.Now()", "unix.TimeNow()", "time.Until(", "unix.TimeUntil(")

// module returns the files of the module, by name.
func module() (map[string]string, error) {
	files := map[string]string{
		"go.mod": goMod, "main.go": wasmMain,
		"sys/go.mod": sysMod, "sys/unix/unix.go": unixPackage,
	}
	for folder, sources := range packages {
		entries, err := sources.ReadDir(".")
		if err != nil {
			return nil, err
		}
		for _, entry := range entries {
			name := folder + "/" + entry.Name()
			text, err := fs.ReadFile(sources, entry.Name())
			if err != nil {
				return nil, err
			}
			if !slices.Contains(leftOut, name) {
				files[name] = forBrowsers.Replace(string(text))
			}
		}
	}
	for _, s := range Servers {
		if s.exercise() {
			text, err := docs.Exercises.ReadFile("exercises/" + s.Files[0])
			if err != nil {
				return nil, err
			}
			files["docs/exercises/"+s.Files[0]] = asPackage.Replace(string(text))
		}
	}
	return files, nil
}

// A program is what a page needs to run the servers.
type program struct {
	wasm []byte // the module, gzipped
	glue string // Go's own script that starts it
}

// compile compiles the module with the go command.
func compile(ctx context.Context) (p program, err error) {
	dir, err := os.MkdirTemp("", "lesson-site-")
	if err != nil {
		return p, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	files, err := module()
	if err != nil {
		return p, err
	}
	for name, text := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return p, err
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return p, err
		}
	}
	if _, err := goCommand(ctx, dir, "build", "-trimpath", "-ldflags=-s -w", "-o", "site.wasm", "."); err != nil {
		return p, err
	}
	root, err := goCommand(ctx, dir, "env", "GOROOT")
	if err != nil {
		return p, err
	}
	glue, err := os.ReadFile(filepath.Join(strings.TrimSpace(root), "lib", "wasm", "wasm_exec.js"))
	if err != nil {
		return p, err
	}
	wasm, err := os.ReadFile(filepath.Join(dir, "site.wasm"))
	if err != nil {
		return p, err
	}
	var packed bytes.Buffer
	packer, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err != nil {
		return p, err
	}
	_, err = packer.Write(wasm)
	err = errors.Join(err, packer.Close())
	return program{packed.Bytes(), string(glue)}, err
}

// ErrNoGo is the error when there is no go command.
var ErrNoGo = errors.New("the lessons are compiled for the browser, and there is no go on the PATH; " +
	"install it from https://go.dev/dl/")

// goCommand runs go for the browser, without a network.
func goCommand(ctx context.Context, dir string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOOS=js", "GOARCH=wasm", "GOWORK=off", "GOFLAGS=-mod=mod",
		"GOPROXY=off", "GOEXPERIMENT=")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return "", ErrNoGo
	case err != nil:
		return "", fmt.Errorf("go %s: %w\n%s", args[0], err, stderr.Bytes())
	}
	return string(out), nil
}
