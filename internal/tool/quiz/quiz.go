// Package quiz asks the chapters' questions. Question and reason are taken from
// the chapter itself, where the answer is folded away; only the answers to choose
// from, and the command that proves the right one, are kept beside it, in
// docs/quiz.
package quiz

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"

	"lesson/docs"
	"lesson/internal/report"
	"lesson/internal/translation"
)

// A Question is one of a chapter's, with answers to choose from.
type Question struct {
	Text    string   `json:"question"`
	Choices []string `json:"choices"` // as they are written down: the right one anywhere
	Right   int      `json:"right"`   // its index in Choices
	Reason  string   `json:"reason"`  // Markdown, from the chapter
	Proof   string   `json:"proof"`   // a command that shows it; "" for a question of judgement
}

// A Chapter is the questions of one chapter.
type Chapter struct {
	File      string     `json:"file"`  // "docs/04-level-triggered.md"
	Page      string     `json:"page"`  // the same, or its translation
	Title     string     `json:"title"` // "4. Level-triggered epoll"
	Questions []Question `json:"questions"`
}

// Chapters is every chapter that asks questions, in reading order, in a language of docs.
// A chapter whose questions have not all been translated is English.
func Chapters(language string) ([]Chapter, error) {
	all, err := load(docs.Chapters, docs.Quiz)
	if err != nil || language == docs.English {
		return all, err
	}
	chapters, kept := docs.In(language, docs.Chapters), docs.In(language, docs.Quiz)
	for i, c := range all {
		if translated, _, err := one(chapters, kept, path.Base(c.File)); err == nil {
			if translated.Title != c.Title {
				translated.Page = translation.Place(c.File)
			}
			all[i] = translated
		}
	}
	return all, nil
}

// Listing returns the chapters as a table.
func Listing(chapters []Chapter) *report.Table {
	t := &report.Table{Left: 3}
	for _, c := range chapters {
		t.Rows = append(t.Rows, []string{
			c.Title, report.Plural(len(c.Questions), "question", "questions"), c.File})
	}
	return t
}

// load reads the chapters, and what the folder quiz has for each. The error says
// all that does not fit.
func load(chapters, quiz fs.FS) ([]Chapter, error) {
	files, err := fs.Glob(chapters, "[0-9][0-9]-*.md")
	if err != nil {
		return nil, err
	}
	var all []Chapter
	var wrong []error
	for _, file := range files {
		c, asks, err := one(chapters, quiz, file)
		if err != nil {
			wrong = append(wrong, err)
		}
		if asks {
			all = append(all, c)
		}
	}
	return all, errors.Join(wrong...)
}

// one reads one chapter. Nothing is asked where nothing has been taught yet.
func one(chapters, quiz fs.FS, file string) (c Chapter, asks bool, err error) {
	text, err := fs.ReadFile(chapters, file)
	if err != nil {
		return Chapter{}, false, err
	}
	c = Chapter{File: "docs/" + file, Page: "docs/" + file, Title: title(string(text))}
	asked := folded(string(text))
	if len(asked) == 0 {
		return c, false, nil
	}
	name := "quiz/" + strings.TrimSuffix(path.Base(file), ".md") + ".txt"
	kept, err := fs.ReadFile(quiz, name)
	if err != nil {
		return c, true, fmt.Errorf("%s asks %d questions: %w", file, len(asked), err)
	}
	c.Questions, err = parse(string(kept))
	if err == nil {
		err = c.reasons(asked)
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", name, err)
	}
	return c, true, err
}

func title(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return strings.TrimPrefix(translation.WithoutAnchor(line), "# ")
}

// A fold is a question as the chapter has it, with its answer.
type fold struct{ question, answer string }

// questions is the heading of that section, in English and in a translation.
var questions = regexp.MustCompile(`(?m)^## (?:Questions|.* <a id="questions"></a>)$`)

var details = regexp.MustCompile(`(?ms)^<details><summary>(.*?)</summary>\n(.*?)^</details>$`)

// folded is the folded answers of the chapter's section Questions.
func folded(text string) []fold {
	at := questions.FindStringIndex(text)
	if at == nil {
		return nil
	}
	section, _, _ := strings.Cut(text[at[1]:], "\n## ")
	var all []fold
	for _, m := range details.FindAllStringSubmatch(section, -1) {
		all = append(all, fold{m[1], strings.TrimSpace(m[2])})
	}
	return all
}

// reasons gives each question the chapter's answer. What the chapter asks and what
// is kept must be the same questions, in the same order.
func (c *Chapter) reasons(asked []fold) error {
	var wrong []error
	for i := range max(len(asked), len(c.Questions)) {
		switch {
		case i >= len(asked):
			wrong = append(wrong, fmt.Errorf("the chapter does not ask %q", c.Questions[i].Text))
		case i >= len(c.Questions):
			wrong = append(wrong, fmt.Errorf("no answers to choose from for %q", asked[i].question))
		case asked[i].question != c.Questions[i].Text:
			wrong = append(wrong, fmt.Errorf("question %d is %q, in the chapter %q",
				i+1, c.Questions[i].Text, asked[i].question))
		default:
			c.Questions[i].Reason = asked[i].answer
		}
	}
	return errors.Join(wrong...)
}

// parse reads a file of docs/quiz. Of each line, the first character says what it
// is: "?" a question, "+" the right answer, "-" a wrong one, "$" the command that
// proves it. Empty lines are free.
func parse(text string) ([]Question, error) {
	var all []Question
	var wrong []error
	for i, line := range strings.Split(text, "\n") {
		if line == "" {
			continue
		}
		kind, rest, _ := strings.Cut(line, " ")
		if kind == "?" {
			all = append(all, Question{Text: rest, Right: -1})
			continue
		}
		if len(all) == 0 {
			wrong = append(wrong, fmt.Errorf("line %d is before the first question", i+1))
			continue
		}
		q := &all[len(all)-1]
		switch {
		case kind == "+" && q.Right < 0:
			q.Right = len(q.Choices)
			q.Choices = append(q.Choices, rest)
		case kind == "-":
			q.Choices = append(q.Choices, rest)
		case kind == "$" && q.Proof == "":
			q.Proof = rest
		default:
			wrong = append(wrong, fmt.Errorf("line %d: %q is not expected here", i+1, line))
		}
	}
	for _, q := range all {
		if q.Right < 0 || len(q.Choices) < 2 {
			wrong = append(wrong, fmt.Errorf("%q has %d answers; want a right one and a wrong one",
				q.Text, len(q.Choices)))
		}
		if choices := slices.Sorted(slices.Values(q.Choices)); len(slices.Compact(choices)) < len(q.Choices) {
			wrong = append(wrong, fmt.Errorf("%q has the same answer twice", q.Text))
		}
	}
	return all, errors.Join(wrong...)
}

// Select is the chapters that are named: by number ("4", "04"), or by file, with or
// without folder and ending. None is all.
func Select(all []Chapter, names []string) ([]Chapter, error) {
	if len(names) == 0 {
		return all, nil
	}
	var selected []Chapter
	for _, name := range names {
		i := slices.IndexFunc(all, func(c Chapter) bool { return c.is(name) })
		if i < 0 {
			var numbers []string
			for _, c := range all {
				numbers = append(numbers, c.number())
			}
			return nil, fmt.Errorf("no questions for chapter %q; there are questions for: %s",
				name, strings.Join(numbers, ", "))
		}
		selected = append(selected, all[i])
	}
	return selected, nil
}

// ID returns "04-level-triggered" for "docs/04-level-triggered.md".
func (c Chapter) ID() string { return strings.TrimSuffix(path.Base(c.File), ".md") }

// number is "4" for "docs/04-level-triggered.md".
func (c Chapter) number() string {
	digits, _, _ := strings.Cut(c.ID(), "-")
	return strings.TrimLeft(digits, "0")
}

func (c Chapter) is(name string) bool {
	return strings.TrimLeft(name, "0") == c.number() ||
		strings.TrimSuffix(path.Base(name), ".md") == c.ID()
}
