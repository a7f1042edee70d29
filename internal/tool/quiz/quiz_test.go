//go:build linux

package quiz

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path"
	"strings"
	"testing"
	"testing/fstest"
	"unicode/utf8"

	"lesson/docs"
	"lesson/internal/proof"
	"lesson/internal/translation"
)

// Every question of every chapter can be answered by choice, and the reason is the
// chapter's own.
func TestEveryChapterIsAsked(t *testing.T) {
	chapters, err := Chapters(docs.English)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range chapters {
		for _, q := range c.Questions {
			if q.Reason == "" || len(q.Choices) != 3 {
				t.Errorf("%s: %q has %d choices, and the reason %q", c.File, q.Text, len(q.Choices), q.Reason)
			}
		}
	}
	if len(chapters) < 7 {
		t.Errorf("%d chapters ask questions", len(chapters))
	}
}

// A chapter that has a quiz in Chinese asks in Chinese, and the choices are as many.
func TestChineseChapters(t *testing.T) {
	english, err := Chapters(docs.English)
	proof.Must(t, err)
	chinese, err := Chapters(docs.Chinese)
	proof.Must(t, err)
	asked := 0
	for i, c := range chinese {
		if c.File != english[i].File || len(c.Questions) != len(english[i].Questions) {
			t.Errorf("%s has %d questions, in English %s %d", c.File, len(c.Questions),
				english[i].File, len(english[i].Questions))
		}
		if !isTranslated(t, c.File) || !isTranslated(t, "docs/quiz/"+strings.TrimSuffix(path.Base(c.File), ".md")+".txt") {
			continue // it may be asked in English
		}
		asked++
		if c.Page == c.File {
			t.Errorf("%s is asked in English: its questions in Chinese are not those of its quiz", c.File)
		}
		for j, q := range c.Questions {
			if of := english[i].Questions[j]; q.Right != of.Right || len(q.Choices) != len(of.Choices) {
				t.Errorf("%s: of %q, the right choice is %d of %d, in English %d of %d", c.File, q.Text,
					q.Right, len(q.Choices), of.Right, len(of.Choices))
			}
		}
	}
	if asked == 0 {
		t.Skip("each chapter has a stale block: go generate ./docs lists them")
	}
}

// isTranslated reports whether a page has a translation without a stale block.
func isTranslated(t *testing.T, file string) bool {
	t.Helper()
	text, err := os.ReadFile("../../../" + translation.Place(file))
	if errors.Is(err, fs.ErrNotExist) {
		return false
	}
	proof.Must(t, err)
	counts := translation.Counts(string(text))
	return counts[translation.Stale]+counts[translation.Missing] == 0
}

// The right answer is not always in the same place, nor always the longest.
func TestTheRightAnswerCannotBeGuessed(t *testing.T) {
	chapters, err := Chapters(docs.English)
	if err != nil {
		t.Fatal(err)
	}
	all, longest := 0, 0
	for _, c := range chapters {
		for _, q := range c.Questions {
			all++
			long := true
			for i, choice := range q.Choices {
				long = long && (i == q.Right || len(choice) < len(q.Choices[q.Right]))
			}
			if long {
				longest++
			}
		}
	}
	if longest > all/2 {
		t.Errorf("the right answer is the longest in %d of %d questions", longest, all)
	}
}

const aChapter = "# 4. Four\n\ntext\n\n## Questions\n\n" +
	"<details><summary>Why `a`?</summary>\n\nBecause [b](x.md) is so.\n\n```console\n$ c\n```\n\n" +
	"And more.\n</details>\n\n" +
	"<details><summary>Why d?</summary>\n\nNo reason.\n</details>\n\n## Next\n\n" +
	"<details><summary>no question</summary>\n\nx\n</details>\n"

const itsQuiz = "? Why `a`?\n- wrong\n+ right\n- worse\n$ lesson list\n\n? Why d?\n+ yes\n- no\n- perhaps\n"

func loaded(t *testing.T, quiz string) ([]Chapter, error) {
	t.Helper()
	return load(
		fstest.MapFS{
			"04-four.md":       {Data: []byte(aChapter)},
			"00-start-here.md": {Data: []byte("# Start\n")}, // asks nothing
			"check.md":         {Data: []byte(aChapter)},    // no chapter
		},
		fstest.MapFS{"quiz/04-four.txt": {Data: []byte(quiz)}})
}

func TestLoad(t *testing.T) {
	chapters, err := loaded(t, itsQuiz)
	if err != nil {
		t.Fatal(err)
	}
	if len(chapters) != 1 || chapters[0].Title != "4. Four" || len(chapters[0].Questions) != 2 {
		t.Fatalf("%+v", chapters)
	}
	q := chapters[0].Questions[0]
	if q.Right != 1 || q.Proof != "lesson list" || !strings.HasSuffix(q.Reason, "And more.") {
		t.Errorf("%+v", q)
	}
}

func TestWhatDoesNotFit(t *testing.T) {
	for _, c := range []struct{ quiz, want string }{
		{"? Why `a`?\n+ x\n- y\n", `no answers to choose from for "Why d?"`},
		{itsQuiz + "? Why e?\n+ x\n- y\n", `the chapter does not ask "Why e?"`},
		{strings.ReplaceAll(itsQuiz, "Why d?", "Why D?"), "question 2 is"},
		{"+ x\n" + itsQuiz, "line 1 is before the first question"},
		{strings.Replace(itsQuiz, "- wrong", "+ wrong", 1), `"+ right" is not expected`},
		{strings.Replace(itsQuiz, "+ right\n", "", 1), "want a right one"},
		{strings.Replace(itsQuiz, "- worse", "- wrong", 1), "the same answer twice"},
		{strings.Replace(itsQuiz, "- worse", "worse", 1), `"worse" is not expected`},
	} {
		if _, err := loaded(t, c.quiz); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %q", err, c.want)
		}
	}
	_, err := load(fstest.MapFS{"04-four.md": {Data: []byte(aChapter)}}, fstest.MapFS{})
	if err == nil || !strings.Contains(err.Error(), "04-four.md asks 2 questions") {
		t.Errorf("without a file: %v", err)
	}
}

func TestSelect(t *testing.T) {
	all := []Chapter{{File: "docs/04-four.md"}, {File: "docs/10-ten.md"}}
	for _, c := range []struct{ names, want, err string }{
		{"", "docs/04-four.md docs/10-ten.md", ""},
		{"4", "docs/04-four.md", ""},
		{"04", "docs/04-four.md", ""},
		{"10 4", "docs/10-ten.md docs/04-four.md", ""},
		{"04-four", "docs/04-four.md", ""},
		{"docs/04-four.md", "docs/04-four.md", ""},
		{"5", "", `no questions for chapter "5"; there are questions for: 4, 10`},
		{"0", "", "there are questions for"},
	} {
		selected, err := Select(all, strings.Fields(c.names))
		var files []string
		for _, s := range selected {
			files = append(files, s.File)
		}
		if got := strings.Join(files, " "); got != c.want {
			t.Errorf("%q: %s, want %s", c.names, got, c.want)
		}
		if (err != nil) != (c.err != "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%q: %v, want %q", c.names, err, c.err)
		}
	}
}

func TestAsk(t *testing.T) {
	chapters, err := loaded(t, itsQuiz)
	if err != nil {
		t.Fatal(err)
	}
	last := func(n int, swap func(i, j int)) { swap(0, n-1) }
	for _, c := range []struct {
		name, typed string
		shuffle     func(int, func(i, j int))
		score       Score
		want        []string
	}{
		{"all right", "b\na\n", nil, Score{2, 2, 2}, []string{"Yes.", "see it   $ lesson list", "  And more."}},
		{"one wrong", "a\nA \n", nil, Score{1, 2, 2}, []string{"No, it is b.", "Yes."}},
		{"mixed", "b\nc\n", last, Score{2, 2, 2}, []string{"  c  wrong", "  a  perhaps"}},
		{"told", "\n\n", nil, Score{0, 0, 2}, []string{"It is b.", "It is a."}},
		{"ended", "b\nq\n", nil, Score{1, 1, 2}, []string{"2 of 2"}},
		{"the input ends", "b\n", nil, Score{1, 1, 2}, nil},
		{"no newline at the end", "b\na", nil, Score{2, 2, 2}, nil},
		{"nonsense is asked again", "d\nab\n, \nb\na\n", nil, Score{2, 2, 2}, nil},
	} {
		var out bytes.Buffer
		s := Session{In: strings.NewReader(c.typed), Out: &out, Shuffle: c.shuffle}
		score, err := s.Ask(chapters)
		if err != nil || score != c.score {
			t.Errorf("%s: %+v, %v, want %+v\n%s", c.name, score, err, c.score, out.String())
		}
		for _, want := range c.want {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%s: no %q in\n%s", c.name, want, out.String())
			}
		}
	}
}

func TestNothingIsWiderThanTheTerminal(t *testing.T) {
	chapters, err := Chapters(docs.English)
	if err != nil {
		t.Fatal(err)
	}
	const width = 60
	var out bytes.Buffer
	s := Session{In: strings.NewReader(strings.Repeat("a\n", 200)), Out: &out, Width: width}
	if _, err := s.Ask(chapters); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(out.String()) {
		quoted := strings.HasPrefix(line, "  $ ") || strings.Contains(line, "see it") || strings.Contains(line, "|")
		if !quoted && utf8.RuneCountInString(strings.TrimRight(line, "\n")) > width {
			t.Errorf("%q", line)
		}
	}
}
