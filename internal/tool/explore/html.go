//go:build linux

package explore

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"strings"

	"lesson/internal/lesson"
	"lesson/internal/words"
)

// The page of a story is one file that loads nothing. Its policy lets only its own style
// and script be used: what a program or a client has written stays text.
var (
	//go:embed page/story.html
	storyHTML string
	//go:embed page/story.js
	storyJS string
)

// ErrNoStory is the error of HTML for a report in which nothing went wrong.
var ErrNoStory = errors.New("no order went wrong, so there is no story")

// HTML writes the story as a page on which its steps can be walked in both directions.
func (r *Report) HTML(w io.Writer) error {
	if r.Story == nil || len(r.Story.Steps) == 0 {
		return ErrNoStory
	}
	story := struct {
		Target   string            `json:"target"`
		Scenario string            `json:"scenario"`
		Asks     string            `json:"asks"`
		Verdict  string            `json:"verdict"`
		Again    string            `json:"again"`
		Notes    []string          `json:"notes"`
		Steps    []Step            `json:"steps"`
		Sources  map[string]string `json:"sources"`
	}{Target: r.Target, Scenario: r.Scenario, Verdict: nothingWrong, Again: r.again(),
		Steps: r.Story.Steps, Sources: r.sources()}
	if s, err := FindScenario(r.Scenario); err == nil {
		story.Asks = s.Asks
	}
	if r.Failure != nil {
		story.Verdict = "FAILS: " + r.Failure.Text + "."
		story.Notes = r.notes()
	}
	english, err := ViewerWords()
	if err != nil {
		return err
	}
	tables, err := json.Marshal(map[string]map[string]string{"en": english})
	if err != nil {
		return err
	}
	data, err := json.Marshal(story) // without <, > and &: they would end the script
	if err != nil {
		return err
	}
	script := words.Script() + ViewerJS + storyJS
	policy := fmt.Sprintf("default-src 'none'; img-src data:; style-src %s; script-src %s",
		hash(ViewerCSS), hash(script))
	_, err = strings.NewReplacer("POLICY", policy, "TITLE", html.EscapeString(r.Target+": "+r.Scenario),
		"STYLE", ViewerCSS, "WORDS", string(tables), "STORY", string(data), "SCRIPT", script).WriteString(w, storyHTML)
	return err
}

// notes returns what a reader of the story must know besides.
func (r *Report) notes() []string {
	var notes []string
	if r.Story.faulty() {
		notes = append(notes, aboutFaults)
	}
	if r.Varies {
		notes = append(notes, aboutVarying)
	}
	return notes
}

// hash names a style or a script in a Content-Security-Policy.
func hash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

// sources returns the source files in which the steps are, by their names there.
func (r *Report) sources() map[string]string {
	found := make(map[string]string)
	for _, step := range r.Story.Steps {
		if text, ok := r.source[step.File]; ok {
			found[step.File] = text
		} else if text, err := lesson.Source(step.File); err == nil {
			found[step.File] = text
		}
	}
	return found
}
