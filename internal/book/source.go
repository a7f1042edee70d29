//go:build linux

package book

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"html"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/alecthomas/chroma/v2"
	"github.com/alecthomas/chroma/v2/lexers"

	"lesson/docs"
	"lesson/internal/lesson"
)

// Files is all source files that can be shown: those of the lessons, and
// "exercise/NAME/main.go" of each exercise.
var Files = sync.OnceValue(func() []string {
	var files []string
	for _, l := range lesson.WithVariants() {
		for _, file := range l.Files {
			if !slices.Contains(files, file) {
				files = append(files, file)
			}
		}
	}
	for _, name := range glob(docs.Exercises, "exercises/*/main.go") {
		files = append(files, strings.Replace(name, "exercises/", "exercise/", 1))
	}
	return files
})

// Source is the text of one of Files.
func Source(file string) (string, error) {
	if !slices.Contains(Files(), file) {
		return "", fmt.Errorf("no source file %q", file)
	}
	if rest, ok := strings.CutPrefix(file, "exercise/"); ok {
		text, err := fs.ReadFile(docs.Exercises, path.Join("exercises", rest))
		return string(text), err
	}
	return lesson.Source(file)
}

// Highlight is source code in a language, as HTML, line by line: its words in
// spans with chroma's classes, such as "k" for a keyword. All else is escaped. A
// language that chroma does not know is plain text.
func Highlight(language, code string) []string {
	lexer := lexers.Get(language)
	if lexer == nil {
		lexer = lexers.Fallback
	}
	code = strings.TrimSuffix(code, "\n")
	tokens, err := chroma.Tokenise(chroma.Coalesce(lexer), nil, code)
	if err != nil {
		return plainLines(code)
	}
	lines := make([]string, 0, strings.Count(code, "\n")+1)
	for _, line := range chroma.SplitTokensIntoLines(tokens) {
		var b strings.Builder
		for _, t := range line {
			text := html.EscapeString(strings.TrimSuffix(t.Value, "\n"))
			class := classOf(t.Type)
			switch {
			case text == "":
			case class == "":
				b.WriteString(text)
			default:
				fmt.Fprintf(&b, `<span class="%s">%s</span>`, class, text)
			}
		}
		lines = append(lines, b.String())
	}
	// A lexer adds a line end of its own, and some take trailing empty lines for one.
	if want := strings.Count(code, "\n") + 1; len(lines) > want {
		lines = lines[:want]
	}
	return lines
}

func plainLines(code string) []string {
	return strings.Split(html.EscapeString(code), "\n")
}

// classOf is the short class of a token, or of the nearest kind that has one.
// Plain text and white space have none.
func classOf(t chroma.TokenType) string {
	for _, kind := range []chroma.TokenType{t, t.SubCategory(), t.Category()} {
		switch class := chroma.StandardTypes[kind]; class {
		case "":
		case "w", "p", "nx", "n":
			return ""
		default:
			return class
		}
	}
	return ""
}

// A Place is a line of a source file.
type Place struct {
	File string
	Line int
}

// places is where the words of a lesson's chapter are in its source: functions
// under their names, and system calls under those of the manual, where they are
// first made.
func places(files []string) map[string]Place {
	found := map[string]Place{}
	add := func(name string, at Place) {
		if _, known := found[name]; !known {
			found[name] = at
		}
	}
	for _, file := range files {
		text, err := Source(file)
		if err != nil {
			continue // what is not carried cannot be linked to
		}
		positions := token.NewFileSet()
		parsed, err := parser.ParseFile(positions, file, text, parser.SkipObjectResolution)
		if err != nil {
			continue
		}
		for _, d := range parsed.Decls {
			if f, ok := d.(*ast.FuncDecl); ok {
				add(f.Name.Name, Place{file, positions.Position(f.Name.Pos()).Line})
			}
		}
		for i, line := range strings.Split(text, "\n") {
			if m := kernelCall.FindStringSubmatch(line); m != nil {
				add(manualName(m[1]), Place{file, i + 1})
			}
		}
	}
	return found
}

var (
	kernelCall = regexp.MustCompile(`\bKernel\.([A-Z]\w+)\(`)
	wordStart  = regexp.MustCompile(`([a-z0-9])([A-Z])`)
)

// manualName is the manual's name of a method of kernel.Kernel: "epoll_wait".
func manualName(method string) string {
	return strings.ToLower(wordStart.ReplaceAllString(method, "${1}_${2}"))
}
