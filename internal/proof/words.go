package proof

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The ways in which the source of a page names a text of its tables.
var (
	namesWords  = regexp.MustCompile(`(?:\bwords\(|\bput\([^"\n]+, |\bkey: |\bdata-words(?:-[a-z-]+)?=)"([^"]+)"`)
	beginsWords = regexp.MustCompile("`([a-z][a-zA-Z.-]*\\.)\\$\\{")
	endsWords   = regexp.MustCompile("\\}(\\.[a-z]+)`")
	literal     = regexp.MustCompile(`"([^"\n]+)"`)
)

// CheckWords checks the tables of a page, by language: its source names only texts that
// each table has, names each text, and a text has the same places for values in each
// table. forms are the sentences of the program, which all tables but the English one have.
func CheckWords(t *testing.T, source string, tables map[string]map[string]string, forms []string) {
	t.Helper()
	english := tables["en"]
	used := make(map[string]bool)
	use := func(key string) bool {
		plural := english[key+".one"] != "" && english[key+".other"] != ""
		used[key], used[key+".one"], used[key+".other"] = true, true, true
		return plural || english[key] != ""
	}
	for _, m := range namesWords.FindAllStringSubmatch(source, -1) {
		if !use(m[1]) {
			t.Errorf("no table has %q", m[1])
		}
	}
	for _, m := range literal.FindAllStringSubmatch(source, -1) {
		use(m[1])
	}
	for _, m := range beginsWords.FindAllStringSubmatch(source, -1) {
		for key := range english {
			if strings.HasPrefix(key, m[1]) {
				used[key] = true
			}
		}
	}
	for _, m := range endsWords.FindAllStringSubmatch(source, -1) {
		for key := range english {
			if base, ends := strings.CutSuffix(key, m[1]); ends && used[base] {
				used[key] = true
			}
		}
	}
	for _, key := range slices.Sorted(maps.Keys(english)) {
		if !used[key] {
			t.Errorf("nothing names %q", key)
		}
	}
	for language, table := range tables {
		if language == "en" {
			continue
		}
		want := make(map[string][]string) // the places for values
		for key, text := range english {
			want[key] = places(text)
		}
		for _, form := range forms {
			want[form] = verbs(form)
		}
		for _, key := range slices.Sorted(maps.Keys(want)) {
			if got, found := table[key]; !found {
				t.Errorf("%s has no %q", language, key)
			} else if !slices.Equal(places(got), want[key]) {
				t.Errorf("%s: %q has places for %q, want %q", language, got, places(got), want[key])
			}
		}
		for key := range table {
			if _, wanted := want[key]; !wanted {
				t.Errorf("%s: nothing names %q", language, key)
			}
		}
	}
}

var (
	place = regexp.MustCompile(`\{(\w+)\}`)
	verb  = regexp.MustCompile(`%[-+# 0-9.]*[a-zA-Z]`)
	word  = regexp.MustCompile(`[a-zA-Z]`)
)

// places returns the names of the values in a text of a table, sorted.
func places(text string) []string {
	var names []string
	for _, m := range place.FindAllStringSubmatch(text, -1) {
		names = append(names, m[1])
	}
	slices.Sort(names)
	return names
}

// verbs returns the numbers of the arguments of a form, as a table names them.
func verbs(form string) []string {
	var numbers []string
	for i := range verb.FindAllString(form, -1) {
		numbers = append(numbers, fmt.Sprint(i))
	}
	return numbers
}

// FormsOf returns the forms in the Go files that a pattern names: the constant arguments of
// calls of some functions or methods. "fail:1" is the second argument of fail; without a
// number, it is the first. Tests are left out, and forms without words, such as "%v".
func FormsOf(t *testing.T, pattern string, functions ...string) []string {
	t.Helper()
	files, err := filepath.Glob(pattern)
	Must(t, err)
	var forms []string
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		Must(t, err)
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			called := ""
			switch f := call.Fun.(type) {
			case *ast.Ident:
				called = f.Name
			case *ast.SelectorExpr:
				called = f.Sel.Name
			}
			for i, argument := range call.Args {
				isForm := slices.Contains(functions, fmt.Sprintf("%s:%d", called, i)) ||
					i == 0 && slices.Contains(functions, called)
				form := constant(argument)
				if isForm && (word.MatchString(verb.ReplaceAllString(form, "")) || len(verbs(form)) > 1) {
					forms = append(forms, form)
				}
			}
			return true
		})
	}
	slices.Sort(forms)
	return slices.Compact(forms)
}

// constant returns the text of a string literal, or of several that are added up.
func constant(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.BasicLit:
		text, _ := strconv.Unquote(e.Value) // a number is no text
		return text
	case *ast.BinaryExpr:
		return constant(e.X) + constant(e.Y)
	}
	return ""
}
