//go:build linux

package exercise

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"strconv"
	"strings"

	"lesson/docs"
	"lesson/internal/translation"
)

// A readme is the README.md of an exercise, taken apart. Its shape:
//
//	# 06 One read per edge
//
//	> "the symptom"
//
//	what kind of server, with a link ../../NN-chapter.md
//
//	## First look
//
//	a block of commands (```sh), what they print
//
//	## Hints
//
//	three times <details><summary>Hint N</summary> … </details>
//
//	## Solution
//
//	<details><summary>The change, and why it works</summary> … ### In the wild … </details>
type readme struct {
	number   int
	title    string
	quote    string // the symptom, in quotation marks, line by line
	about    string // the paragraph after it
	chapter  string // the file that the paragraph links to first
	look     string
	hints    []string
	solution string
	sections [3]string // their titles
	words    words
}

// words are what a copy says in the language of its README.
type words struct {
	page        string // takes the place of a link to another page: $1 its text, $2 its file
	fixed, hint string // before the commands
}

var (
	inEnglish = words{"$1 (docs/$2)",
		"The server is in main.go. When you think that it is fixed:", "For a hint, or for the solution:"}
	inChinese = words{"$1（docs/zh/$2）", "服务器在 main.go 里。你认为修好了的时候：", "要看提示或者解法："}
)

// pageLink is a link to another page in docs. A copy is somewhere else.
var pageLink = regexp.MustCompile(`\[([^\]]+)\]\(\.\./\.\./([^)]+)\)`)

// away returns a part of the README for a place outside of docs.
func (r readme) away(text string) string { return pageLink.ReplaceAllString(text, r.words.page) }

var (
	titleLine   = regexp.MustCompile(`^# (\d\d) (\S.*)$`)
	chapterLink = regexp.MustCompile(`\]\(\.\./\.\./(\d\d-[^)#]+\.md)`)
	summary     = regexp.MustCompile(`^<details><summary>(.*)</summary>$`)
)

// parseReadme takes a README apart. The error says all that is wrong with it.
func parseReadme(text string) (readme, error) {
	r := readme{words: inEnglish}
	var wrong []error
	complain := func(format string, args ...any) {
		wrong = append(wrong, fmt.Errorf(format, args...))
	}

	parts, order := split(text, "## ")
	if got, want := strings.Join(order, ", "), "First look, Hints, Solution"; got != want {
		complain("its sections are %s; want %s", got, want)
	}

	copy(r.sections[:], order)

	head := paragraphs(parts[""])
	if len(head) != 3 {
		complain("%d paragraphs before the first section; want the title, the symptom,"+
			" the kind of server", len(head))
		head = append(head, "", "", "")
	}
	if m := titleLine.FindStringSubmatch(head[0]); m != nil {
		r.number, _ = strconv.Atoi(m[1]) // two digits
		r.title = m[2]
	} else {
		complain(`the title is %q; want "# NN Title"`, head[0])
	}
	r.quote = unquote(head[1])
	if len(r.quote) < 3 || !strings.HasPrefix(r.quote, `"`) || !strings.HasSuffix(r.quote, `"`) {
		complain(`the symptom is %q; want > "…"`, head[1])
	}
	r.about = head[2]
	if m := chapterLink.FindStringSubmatch(r.about); m != nil {
		r.chapter = m[1]
	} else {
		complain("the paragraph after the symptom links to no chapter (../../NN-….md)")
	}

	r.look = parts["First look"]
	if !strings.Contains("\n"+r.look, "\n```sh\n") {
		complain("the first look has no ```sh block")
	}

	hints := details(parts["Hints"])
	for i, hint := range hints {
		if want := fmt.Sprintf("Hint %d", i+1); hint.summary != want {
			complain("a hint is called %q; want %q", hint.summary, want)
		}
		if hint.text == "" {
			complain("hint %d is empty", i+1)
		}
		r.hints = append(r.hints, hint.text)
	}
	if len(hints) != 3 {
		complain("%d hints (<details><summary>Hint N</summary> alone on a line); want 3", len(hints))
	}

	const change = "The change, and why it works"
	solution := details(parts["Solution"])
	if len(solution) != 1 || solution[0].summary != change {
		complain("the solution is not <details><summary>%s</summary>, once", change)
	} else {
		r.solution = solution[0].text
		sub, order := split(r.solution, "### ")
		if strings.Join(order, ", ") != "In the wild" || sub[""] == "" || sub["In the wild"] == "" {
			complain("the solution has the parts %q; want what to change, and In the wild", order)
		}
	}
	return r, errors.Join(wrong...)
}

// split cuts a Markdown text at the headings that begin with mark. What comes
// before the first one is called "".
func split(text, mark string) (parts map[string]string, order []string) {
	parts = make(map[string]string)
	name, fenced := "", false
	for line := range strings.Lines(text) {
		fenced = fenced != strings.HasPrefix(line, "```")
		if heading, ok := strings.CutPrefix(line, mark); ok && !fenced {
			name = strings.TrimSpace(heading)
			order = append(order, name)
			continue
		}
		parts[name] += line
	}
	for name, text := range parts {
		parts[name] = strings.Trim(text, "\n")
	}
	return parts, order
}

// paragraphs are the parts of a text between empty lines.
func paragraphs(text string) []string {
	var found []string
	for part := range strings.SplitSeq(text, "\n\n") {
		if part = strings.Trim(part, "\n"); part != "" {
			found = append(found, part)
		}
	}
	return found
}

// unquote is a Markdown quotation without its marks, "" when it is none.
func unquote(text string) string {
	var lines []string
	for line := range strings.Lines(text) {
		quoted, ok := strings.CutPrefix(line, ">")
		if !ok {
			return ""
		}
		lines = append(lines, strings.TrimSpace(quoted))
	}
	return strings.Join(lines, "\n")
}

// in returns the README in a language of docs.
func (e Exercise) in(language string) (readme, error) {
	if language != docs.Chinese {
		return e.readme, nil
	}
	text, err := fs.ReadFile(docs.In(language, docs.Exercises), path.Join("exercises", e.Name, "README.md"))
	if err != nil {
		return readme{}, err
	}
	r, err := parseTranslation(string(text))
	if err == nil && len(r.hints) != len(e.Hints) {
		err = fmt.Errorf("%d hints, want %d", len(r.hints), len(e.Hints))
	}
	if err != nil {
		return r, fmt.Errorf("the README of %s in %q: %w", e.Name, language, err)
	}
	return r, nil
}

// parseTranslation takes a translated README apart. Its parts are in the order of the
// English one. A note may stand before a part that has no current translation.
func parseTranslation(text string) (readme, error) {
	r := readme{words: inChinese}
	var plain strings.Builder
	for line := range strings.Lines(text) {
		plain.WriteString(translation.WithoutAnchor(strings.TrimSuffix(line, "\n")) + "\n")
	}
	parts, order := split(plain.String(), "## ")
	head := paragraphs(parts[""])
	if len(order) != len(r.sections) || len(head) < 3 {
		return r, fmt.Errorf("%d paragraphs and the sections %q", len(head), order)
	}
	copy(r.sections[:], order)
	m := titleLine.FindStringSubmatch(head[0])
	if m == nil {
		return r, fmt.Errorf("the title is %q", head[0])
	}
	last := len(head) - 1
	r.title, r.quote, r.about = m[2], unquote(strings.Join(head[1:last], "\n")), head[last]
	r.look = parts[order[0]]
	for _, hint := range details(parts[order[1]]) {
		if hint.summary != "" {
			r.hints = append(r.hints, hint.text)
		}
	}
	for _, part := range details(parts[order[2]]) {
		if part.summary != "" {
			r.solution = part.text
		}
	}
	return r, nil
}

// A detail is a folded part of a page.
type detail struct{ summary, text string }

// details returns the folded parts of a section. Text between them is returned as a
// part without a summary, which a reader would miss.
func details(text string) []detail {
	var found []detail
	open, fenced := false, false
	for line := range strings.Lines(text) {
		fenced = fenced != strings.HasPrefix(line, "```")
		plain := strings.TrimRight(line, " \n")
		switch m := summary.FindStringSubmatch(plain); {
		case m != nil && !open && !fenced:
			found = append(found, detail{summary: m[1]})
			open = true
		case plain == "</details>" && open && !fenced:
			open = false
		case open:
			found[len(found)-1].text += line
		case plain != "":
			found = append(found, detail{text: line})
		}
	}
	for i := range found {
		found[i].text = strings.Trim(found[i].text, "\n")
	}
	if open {
		found = append(found, detail{summary: "no </details> after it"})
	}
	return found
}
