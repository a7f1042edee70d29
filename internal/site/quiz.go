package site

import (
	"bytes"
	"regexp"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/extension"

	"lesson/docs"
	"lesson/internal/tool/quiz"
)

// questions returns the questions of all chapters in each language of the page.
func questions() (map[string][]Chapter, error) {
	all := make(map[string][]Chapter)
	for _, language := range []string{docs.English, docs.Chinese} {
		chapters, err := Quiz(language)
		if err != nil {
			return nil, err
		}
		all[language] = chapters
	}
	return all, nil
}

// A Chapter is the questions of one chapter, as the page shows them.
type Chapter struct {
	Page      string     `json:"page"` // of the chapters
	Title     string     `json:"title"`
	Questions []Question `json:"questions"`
}

// A Question is one of a quiz.Chapter. Its texts are HTML.
type Question struct {
	Text    string   `json:"text"`
	Choices []string `json:"choices"`
	Right   int      `json:"right"`
	Reason  string   `json:"reason"`
	Proof   string   `json:"proof"` // a command, as text
}

// Quiz returns the questions of all chapters in a language of docs.
func Quiz(language string) ([]Chapter, error) {
	chapters, err := quiz.Chapters(language)
	if err != nil {
		return nil, err
	}
	var all []Chapter
	for _, c := range chapters {
		shown := Chapter{Page: c.ID(), Title: c.Title}
		for _, q := range c.Questions {
			question := Question{Text: inline(q.Text), Right: q.Right, Reason: paragraphs(q.Reason), Proof: q.Proof}
			for _, choice := range q.Choices {
				question.Choices = append(question.Choices, inline(choice))
			}
			shown.Questions = append(shown.Questions, question)
		}
		all = append(all, shown)
	}
	return all, nil
}

// markdown renders without HTML of the text's own. Columns are aligned by an attribute:
// the page's policy refuses inline styles.
var markdown = goldmark.New(goldmark.WithExtensions(
	extension.NewTable(extension.WithTableCellAlignMethod(extension.TableCellAlignAttribute))))

// link is one whose target is a file of the repository or a page of the web: the page has
// neither.
var link = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`)

// paragraphs returns Markdown as HTML, without its links.
func paragraphs(text string) string {
	var html bytes.Buffer
	if err := markdown.Convert([]byte(link.ReplaceAllString(text, "$1")), &html); err != nil {
		panic(err) // a buffer takes everything
	}
	return html.String()
}

// inline returns one line of Markdown as HTML without a paragraph around it.
func inline(text string) string {
	html := bytes.TrimSpace([]byte(paragraphs(text)))
	html = bytes.TrimPrefix(html, []byte("<p>"))
	return string(bytes.TrimSuffix(html, []byte("</p>")))
}
