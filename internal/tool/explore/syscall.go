//go:build linux

package explore

import (
	"context"
	"fmt"
	"go/parser"
	"go/token"
	"os"
	"slices"
	"strings"
)

// Package syscall cannot be replaced, because the standard library is built on it. But
// golang.org/x/sys/unix has nearly all of its names. So a program on syscall is built from
// copies of its files that import that package in the place of syscall, on the same line.

// onSyscall reports whether the program makes its calls through package syscall.
func (p *goPackage) onSyscall() bool {
	return slices.Contains(p.Imports, "syscall") && !slices.Contains(p.Deps, sysUnix)
}

const (
	sysModule = "golang.org/x/sys"
	sysUnix   = sysModule + "/unix"
	// sysVersion is the version that this program was built with: go.mod has it, too.
	sysVersion = "v0.49.0"
)

// findSys returns the folder of x/sys and its version. A program on syscall need not
// require it: then it is taken from the machine's cache, where it is since lesson was built.
func (g goTool) findSys(ctx context.Context, pkg *goPackage) ([]byte, error) {
	if pkg.onSyscall() {
		text, err := os.ReadFile(g.modfile)
		if err == nil && !strings.Contains(string(text), sysModule+" ") {
			text = fmt.Appendf(text, "\nrequire %s %s\n", sysModule, sysVersion)
			err = os.WriteFile(g.modfile, text, 0o600)
		}
		if err != nil {
			return nil, err
		}
	}
	out, err := g.run(ctx, "list", "-m", "-f", "{{.Dir}}\n{{.Version}}", sysModule)
	if err != nil && pkg.onSyscall() {
		return nil, fmt.Errorf("%w\nTo explore a program on package syscall, run first: go get %s@%s",
			err, sysModule, sysVersion)
	}
	return out, err
}

// withoutSyscall returns the source of a file with x/sys/unix in the place of syscall. No
// line of it moves.
func withoutSyscall(text []byte) ([]byte, error) {
	files := token.NewFileSet()
	parsed, err := parser.ParseFile(files, "", text, parser.ImportsOnly)
	if err != nil {
		return nil, err
	}
	for _, spec := range parsed.Imports {
		if spec.Path.Value != `"syscall"` {
			continue
		}
		path := fmt.Sprintf("%q", sysUnix)
		if spec.Name == nil {
			path = "syscall " + path
		}
		from, to := files.Position(spec.Path.Pos()).Offset, files.Position(spec.Path.End()).Offset
		return slices.Concat(text[:from], []byte(path), text[to:]), nil
	}
	return text, nil
}
