//go:build linux

package docs_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// calledBy is what a line of source may have in it to make a system call: the
// method of kernel.Kernel, or what makes the call for it.
var calledBy = map[string][]string{
	// The listener is made by the ground floor, for the line that asks for it.
	"socket":      {"Listen(", "Socket("},
	"bind":        {"Listen(", "Bind("},
	"listen":      {"Listen("},
	"getsockname": {"Listen("},
	"setsockopt":  {"Listen(", "SetsockoptInt(", "SetsockoptTimeval(", "SetListenerOptions"},

	"accept4":       {"Accept4("},
	"read":          {"Read("},
	"send":          {"Send("},
	"write":         {"Write("},
	"shutdown":      {"Shutdown(", "Stop(", "Waiting("},
	"close":         {"Close(", "CloseListener("},
	"epoll_create1": {"EpollCreate1("},
	"epoll_ctl":     {"EpollCtl("},
	"epoll_wait":    {"EpollWait("},
	"nanosleep":     {"Nanosleep("},
}

// calledByNet is the same for programs of these pages, on package net.
var calledByNet = map[string][]string{
	"socket":    {"net.Listen("},
	"listen":    {"net.Listen("},
	"epoll_ctl": {"net.Listen(", ".Accept(", ".Close("},
	"accept4":   {".Accept("},
	"splice":    {"io.Copy("},
	"close":     {".Close("},
}

// calledByPython is the same for a script that check.md shows, and that trace.md traces.
var calledByPython = map[string][]string{
	"bind":    {"socket.create_server("},
	"listen":  {"socket.create_server("},
	"accept4": {".accept("},
	"recv":    {".recv("},
}

// makesCall says what is wrong with the claim that a line of a file of the
// repository, or of a script of a page, makes a system call.
func makesCall(file string, line int, call string) error {
	names := calledByNet[call]
	text, err := os.ReadFile(filepath.Join(root, file))
	if filepath.Ext(file) == ".py" {
		names = calledByPython[call]
		text, err = scriptOf("docs/check.md", file)
	}
	if err != nil {
		return fmt.Errorf("%s: there is no such file", file)
	}
	if filepath.Ext(file) == ".go" && !strings.HasPrefix(file, "docs/") {
		return sourceMakesCall(file, string(text), line, call)
	}
	lines := strings.Split(string(text), "\n")
	for _, name := range names {
		if line >= 1 && line <= len(lines) && strings.Contains(lines[line-1], name) {
			return nil
		}
	}
	return fmt.Errorf("%s:%d does not call %s", file, line, call)
}

// scriptOf returns a script in Python that a page shows for its reader to write.
func scriptOf(page, name string) ([]byte, error) {
	text, err := os.ReadFile(filepath.Join(root, page))
	if err != nil {
		return nil, err
	}
	_, after, found := strings.Cut(string(text), "<!-- file: "+name+" -->\n\n```python\n")
	script, _, ends := strings.Cut(after, "```\n")
	if !found || !ends {
		return nil, fmt.Errorf("%s does not show %s", page, name)
	}
	return []byte(script), nil
}

func sourceMakesCall(file, text string, line int, call string) error {
	names, known := calledBy[call]
	if !known {
		return fmt.Errorf("%s:%d: %s is not a call that a lesson makes", file, line, call)
	}
	lines := strings.Split(text, "\n")
	if line < 1 || line > len(lines) {
		return fmt.Errorf("%s has no line %d", file, line)
	}
	source := strings.TrimSpace(lines[line-1])
	// A deferred call is made where its function ends, not where it is deferred.
	deferred := strings.HasPrefix(source, "defer ")
	for _, name := range names {
		if !deferred && strings.Contains(source, name) && !strings.HasPrefix(source, "//") {
			return nil
		}
	}
	ends, err := deferredEnds(file, text, names)
	if err != nil {
		return err
	}
	if ends[line] {
		return nil
	}
	hint := nearest(lines, line, names, ends)
	return fmt.Errorf("%s:%d does not call %s: %q%s", file, line, call, source, hint)
}

// nearest names the line near by that does make the call, for the author of a page.
func nearest(lines []string, line int, names []string, ends map[int]bool) string {
	for distance := 1; distance < len(lines); distance++ {
		for _, n := range []int{line - distance, line + distance} {
			if n < 1 || n > len(lines) {
				continue
			}
			source := strings.TrimSpace(lines[n-1])
			makes := slices.ContainsFunc(names, func(name string) bool {
				return strings.Contains(source, "."+name) && !strings.HasPrefix(source, "//") &&
					!strings.HasPrefix(source, "defer ")
			})
			if makes || ends[n] {
				return fmt.Sprintf("; line %d may", n)
			}
		}
	}
	return ""
}

// deferredEnds are the lines at which a function returns that has deferred one
// of these calls: its return statements and its last line.
func deferredEnds(file, text string, names []string) (map[int]bool, error) {
	files := token.NewFileSet()
	parsed, err := parser.ParseFile(files, file, text, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	ends := make(map[int]bool)
	for _, decl := range parsed.Decls {
		f, ok := decl.(*ast.FuncDecl)
		if !ok || f.Body == nil {
			continue
		}
		defers, returns := false, []token.Pos{f.Body.Rbrace}
		ast.Inspect(f.Body, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncLit:
				return false // a function of its own
			case *ast.DeferStmt:
				first, last := files.Position(n.Call.Pos()), files.Position(n.Call.End())
				called := text[first.Offset:last.Offset]
				for _, name := range names {
					defers = defers || strings.Contains(called, name)
				}
			case *ast.ReturnStmt:
				returns = append(returns, n.Pos())
			}
			return true
		})
		if defers {
			for _, pos := range returns {
				ends[files.Position(pos).Line] = true
			}
		}
	}
	return ends, nil
}
