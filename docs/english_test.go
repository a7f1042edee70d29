//go:build linux

package docs_test

import (
	"go/scanner"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"lesson/internal/proof"
	"lesson/internal/translation"
)

// written are the endings of the files in which people read prose.
var written = []string{".go", ".html", ".js", ".md", ".patch", ".py", ".sh", ".txt", ".txtar"}

// Prose, comments and strings use none of the words that the glossary rejects.
func TestEnglish(t *testing.T) {
	words := rejectedWords(t)
	used := make(map[allowance]bool)
	files := 0
	err := filepath.WalkDir(root, func(path string, entry os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && (entry.Name() == "build" || path != root && entry.Name()[0] == '.' ||
			path == filepath.Join(root, translation.Root)) {
			return filepath.SkipDir
		}
		self := entry.Name() == "english_test.go" // the examples below
		if entry.IsDir() || self || !slices.Contains(written, filepath.Ext(path)) {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		files++
		file := strings.TrimPrefix(path, root+"/")
		for _, found := range words.find(file, string(text)) {
			one, whole := allowance{file, found.word}, allowance{file: file}
			used[one], used[whole] = true, true
			if allowances[one] == "" && allowances[whole] == "" {
				t.Errorf("%s:%d: %q: write %s (see %q in docs/glossary.md)",
					file, found.line, found.word, found.instead, rejectedTitle)
			}
		}
		return nil
	})
	proof.Must(t, err)
	if files < 400 {
		t.Errorf("%d files read, want at least 400", files)
	}
	for allowed := range allowances {
		if !used[allowed] {
			t.Errorf("%s has no rejected word %q any more: remove the allowance",
				allowed.file, allowed.word)
		}
	}
}

// An allowance lets one file use one rejected word, or all of them if word is "".
type allowance struct{ file, word string }

// allowances are the rejected words that are right where they are, each with the reason.
var allowances = map[allowance]string{}

// rejectedTitle is the heading of the glossary over its table of rejected words.
const rejectedTitle = "Words that are not used here"

// A rejection is a row of that table: words, and what to write instead.
type rejection struct {
	longest []string // the longest word of each phrase, to skip most files quickly
	words   *regexp.Regexp
	instead string
}

type rejections []rejection

// A finding is a rejected word in a file.
type finding struct {
	line          int
	word, instead string
}

var rejectedRow = regexp.MustCompile(`^\| ([a-z][^|]*) \| ([^|]+) \|$`)

// rejectedWords reads the table in the glossary. A blank in a phrase stands for any white
// space, and for the beginning of the next line of a comment.
func rejectedWords(t *testing.T) rejections {
	t.Helper()
	text, err := os.ReadFile("glossary.md")
	proof.Must(t, err)
	var all rejections
	for _, line := range strings.Split(section(parse("docs/glossary.md", string(text)), rejectedTitle), "\n") {
		row := rejectedRow.FindStringSubmatch(line)
		if row == nil {
			continue
		}
		r := rejection{instead: row[2]}
		phrases := strings.Split(row[1], ", ")
		for _, phrase := range phrases {
			byLength := func(a, b string) int { return len(a) - len(b) }
			r.longest = append(r.longest, slices.MaxFunc(strings.Fields(phrase), byLength))
		}
		pattern := strings.ReplaceAll(strings.Join(phrases, "|"), " ", `\s+(?:(?:\+?//|#|>) *)?`)
		r.words = regexp.MustCompile(`\b(?:` + pattern + `)\b`)
		all = append(all, r)
	}
	if len(all) < 8 {
		t.Fatalf("%d rows under %q in the glossary, want at least 8", len(all), rejectedTitle)
	}
	return all
}

// find returns the rejected words in what a person reads of the file.
func (all rejections) find(file, text string) []finding {
	prose := text
	switch filepath.Ext(file) {
	case ".go":
		prose = commentsAndStrings(text)
	case ".md":
		prose = strings.Join(withoutQuotes(parse(file, text)), "\n")
	}
	prose = strings.ToLower(prose)
	within := func(word string) bool { return strings.Contains(prose, word) }
	var found []finding
	for _, rejected := range all {
		if !slices.ContainsFunc(rejected.longest, within) {
			continue
		}
		for _, at := range rejected.words.FindAllStringIndex(prose, -1) {
			line := strings.Count(prose[:at[0]], "\n") + 1
			word := strings.Join(strings.Fields(prose[at[0]:at[1]]), " ")
			found = append(found, finding{line, word, rejected.instead})
		}
	}
	return found
}

// commentsAndStrings returns the text of a Go file with everything else blanked out, on
// the same lines.
func commentsAndStrings(text string) string {
	file := token.NewFileSet().AddFile("", -1, len(text))
	var s scanner.Scanner
	s.Init(file, []byte(text), nil, scanner.ScanComments)
	var prose strings.Builder
	lines := 1
	for {
		pos, tok, literal := s.Scan()
		if tok == token.EOF {
			return prose.String()
		}
		if tok != token.COMMENT && tok != token.STRING {
			continue
		}
		line := file.Line(pos)
		prose.WriteString(strings.Repeat("\n", line-lines))
		prose.WriteString(literal + " ")
		lines = line + strings.Count(literal, "\n")
	}
}

// withoutQuotes returns the lines of a page without the blocks that quote code or show a
// terminal, and without the glossary's table of rejected words.
func withoutQuotes(p *page) []string {
	lines := slices.Clone(p.prose)
	for _, b := range p.blocks {
		if b.info == "" {
			copy(lines[b.first-1:], b.lines)
		}
	}
	inTable := false
	for i, line := range lines {
		if p.file == "docs/glossary.md" && strings.HasPrefix(line, "## ") {
			inTable = line == "## "+rejectedTitle
		}
		if inTable && rejectedRow.MatchString(line) {
			lines[i] = ""
		}
	}
	return lines
}

func TestFindRejectedWords(t *testing.T) {
	words := rejectedWords(t)
	tests := []struct{ file, text, want string }{
		{"x.md", "The server waits for ever.", "for ever"},
		{"x.md", "It waits for\never, and recommends a forever.", "for\never"},
		{"x.md", "```console\n$ id nobody\n```", ""},
		{"x.md", "```\nnobody waits\n```", "nobody"},
		{"x.go", "package x\n\n// It waits for\n// ever.\nvar nobody = 1", "for // ever"},
		{"x.go", "package x\n\nvar x = \"Nobody\" // nothing", "nobody"},
		{"x.sh", "echo Whoever", "whoever"},
	}
	for _, test := range tests {
		var got []string
		for _, found := range words.find(test.file, test.text) {
			got = append(got, found.word)
		}
		if want := strings.Join(strings.Fields(test.want), " "); strings.Join(got, ", ") != want {
			t.Errorf("%s %q: %q, want %q", test.file, test.text, got, want)
		}
	}
	if got := words.find("x.go", "package x\n\nvar a, b = 1, 2\n\n// anew"); len(got) != 1 || got[0].line != 5 {
		t.Errorf("%+v, want one finding in line 5", got)
	}
}
