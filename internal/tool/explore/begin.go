//go:build linux

package explore

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

// A program runs once for each order, in one process, and each time its package-level
// variables must be as they are when a process begins: a map that still had the connections
// of the order before would make a right server fail. So the program is built from copies of
// its files that end with functions which give the variables their first values again. They
// run where main runs: only a channel that is made there lets testing/synctest know that a
// goroutine waits for it.

// copyFiles writes the copies of the program's files, and adds them to overlay.
func (b *Built) copyFiles(folder string, pkg *goPackage, overlay map[string]string) error {
	for i, name := range pkg.GoFiles {
		file := filepath.Join(folder, name)
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if pkg.onSyscall() {
			if text, err = withoutSyscall(text); err != nil {
				return err
			}
		}
		if text, err = withBegin(file, text, i); err != nil {
			return err
		}
		overlay[file] = filepath.Join(b.dir.Path, "copy-of-"+name)
		if err := os.WriteFile(overlay[file], text, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// The functions at the end of a copy, and the name that an init gets there: only under
// another name it can be called again.
const (
	zeroName  = "lessonZero%d"
	valueName = "lessonValue%d"
	initName  = "lessonInit%d_"
)

// beginAll returns the calls that begin a program of so many files, in the order of Go:
// first the variables, then each init.
func beginAll(files int) string {
	var b strings.Builder
	for _, name := range []string{zeroName, valueName, initName} {
		for i := range files {
			fmt.Fprintf(&b, "\t"+name+"()\n", i)
		}
	}
	return b.String()
}

// withBegin returns the source of a file with these functions at its end. No line of it
// moves.
func withBegin(file string, text []byte, number int) ([]byte, error) {
	files := token.NewFileSet()
	parsed, err := parser.ParseFile(files, file, text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	source := func(n ast.Node) string {
		return string(text[files.Position(n.Pos()).Offset:files.Position(n.End()).Offset])
	}
	var zero, value, inits, copied strings.Builder
	end := 0 // of what has been copied
	for _, decl := range parsed.Decls {
		switch d := decl.(type) {
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				v, ok := spec.(*ast.ValueSpec)
				switch {
				case !ok || d.Tok != token.VAR || embeds(d.Doc) || embeds(v.Doc):
				case len(v.Values) > 0:
					value.WriteString(assignment(files, v, source))
				default:
					for _, name := range v.Names {
						fmt.Fprintf(&zero, "\t%s = *new(%s)\n", name.Name, source(v.Type))
					}
				}
			}
		case *ast.FuncDecl:
			if d.Name.Name == "init" && d.Recv == nil {
				at := files.Position(d.Name.Pos()).Offset
				name := fmt.Sprintf(initName+"%d", number, at)
				copied.WriteString(string(text[end:at]) + name)
				end = at + len("init")
				fmt.Fprintf(&inits, "\t%s()\n", name)
			}
		}
	}
	copied.Write(text[end:])
	fmt.Fprintf(&copied, "\nfunc "+zeroName+"() {\n%s}\n", number, &zero)
	fmt.Fprintf(&copied, "\nfunc "+initName+"() {\n%s}\n", number, &inits)
	fmt.Fprintf(&copied, "\nfunc "+valueName+"() {\n%s}\n", number, &value) // moves lines
	return []byte(copied.String()), nil
}

// assignment returns the statement that does what a declaration does. What it copies keeps
// its place in the source: a function among the values makes calls, too.
func assignment(files *token.FileSet, v *ast.ValueSpec, source func(ast.Node) string) string {
	var names, values []string
	blank := true
	for _, name := range v.Names {
		names = append(names, name.Name)
		blank = blank && name.Name == "_"
	}
	if blank {
		return ""
	}
	for _, e := range v.Values {
		values = append(values, fmt.Sprintf("/*line %s*/%s", files.Position(e.Pos()), source(e)))
	}
	return fmt.Sprintf("\t%s = %s\n", strings.Join(names, ", "), strings.Join(values, ", "))
}

// embeds reports whether a comment has the directive go:embed: no assignment replaces it.
func embeds(doc *ast.CommentGroup) bool {
	return doc != nil && slices.ContainsFunc(doc.List, func(c *ast.Comment) bool {
		return strings.HasPrefix(c.Text, "//go:embed ")
	})
}
