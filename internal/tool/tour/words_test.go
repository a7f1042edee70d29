//go:build linux

package tour

import (
	"io/fs"
	"os"
	"strings"
	"testing"

	"lesson/internal/lesson"
	"lesson/internal/observe/program"
	"lesson/internal/play"
	"lesson/internal/proof"
	"lesson/internal/words"
)

// What the page says is in its tables, in each language, and nothing else is.
func TestWords(t *testing.T) {
	var source strings.Builder
	source.WriteString(words.Module)
	tables := make(map[string]map[string]string)
	err := fs.WalkDir(page(), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := fs.ReadFile(page(), name)
		if err != nil {
			return err
		}
		if file, isTable := strings.CutPrefix(name, "words/"); isTable {
			tables[strings.TrimSuffix(file, ".js")], err = words.Table(string(text))
			return err
		}
		source.Write(text)
		return nil
	})
	proof.Must(t, err)
	exports, err := os.ReadFile("export.go") // it adds a link to the page
	proof.Must(t, err)
	source.Write(exports)
	proof.CheckWords(t, source.String(), tables, sentences(t))
}

// sentences returns what the page gets from the program: problems, verdicts and acts, and
// the titles of what can be chosen.
func sentences(t *testing.T) []string {
	all := proof.FormsOf(t, "*.go", "badRequest", "forbidden", "notFound", "gone", "tooMany", "hint", "Say")
	all = append(all, proof.FormsOf(t, "../../observe/program/*.go", "Say")...)
	for _, verb := range play.Verbs() {
		for _, bytes := range []play.Bytes{"x", "xy"} {
			all = append(all, play.Act{Client: "a", Do: verb, Bytes: bytes}.Sentence().Form)
		}
	}
	for _, s := range play.Few() {
		all = append(all, s.Title, s.Question)
	}
	for _, l := range lesson.All() {
		all = append(all, l.Title)
	}
	// Why the calls of a server are not shown, and how the connection of a client has ended.
	all = append(all, program.Foreign, notAllowed, noAnswer, play.ErrReset.Error(), play.ErrTimeout.Error(),
		play.ErrTooMuch.Error(), play.DidReset)
	return all
}
