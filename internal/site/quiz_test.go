package site

import (
	"strings"
	"testing"

	"lesson/docs"
	"lesson/internal/proof"
	"lesson/internal/tool/quiz"
)

// The page asks what `lesson quiz` asks, in both languages.
func TestQuestions(t *testing.T) {
	shown, err := questions()
	proof.Must(t, err)
	for _, language := range []string{docs.English, docs.Chinese} {
		asked, err := quiz.Chapters(language)
		proof.Must(t, err)
		if len(shown[language]) != len(asked) {
			t.Fatalf("%s: %d chapters, want %d", language, len(shown[language]), len(asked))
		}
		for i, c := range asked {
			page := shown[language][i]
			if page.Title != c.Title || "docs/"+page.Page+".md" != c.File || len(page.Questions) != len(c.Questions) {
				t.Errorf("%s: %q of %s has %d questions, want %q of %s with %d", language,
					page.Title, page.Page, len(page.Questions), c.Title, c.File, len(c.Questions))
				continue
			}
			for j, q := range page.Questions {
				want := c.Questions[j]
				if len(q.Choices) != len(want.Choices) || q.Right != want.Right || q.Proof != want.Proof {
					t.Errorf("%s: %+v, want %+v", language, q, want)
				}
				for _, line := range append(q.Choices, q.Text) {
					if line == "" || strings.Contains(line, "<p>") {
						t.Errorf("%s: %q cannot be in a line", language, line)
					}
				}
				if !strings.HasPrefix(q.Reason, "<") || strings.Contains(q.Reason, "<a ") || strings.Contains(q.Reason, "](") {
					t.Errorf("%s: the reason %q, want HTML without links", language, q.Reason)
				}
			}
		}
	}
}

// Each story is of a server of the page.
func TestStories(t *testing.T) {
	for _, story := range Stories {
		found := false
		for _, s := range Servers {
			found = found || s.Name == story.Server
		}
		if !found {
			t.Errorf("%s: there is no server %s", story.Title, story.Server)
		}
	}
}
