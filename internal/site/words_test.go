//go:build linux

package site

import (
	"strings"
	"testing"

	"lesson/internal/proof"
	"lesson/internal/tool/explore"
	"lesson/internal/words"
)

// What the page says is in its tables, in each language, and nothing else is.
func TestWords(t *testing.T) {
	tables, err := tables()
	proof.Must(t, err)
	forms := proof.FormsOf(t, "../kernel/simulated/*.go", "Say")
	for _, file := range []string{"perform", "told", "execution", "judge", "actors"} {
		forms = append(forms, proof.FormsOf(t, "../tool/explore/"+file+".go",
			"Say", "note", "fail:1", "abort:1", "verb", "verb:1")...)
	}
	forms = append(forms, proof.FormsOf(t, "wasm/main.go", "Say")...)
	for _, s := range Servers {
		forms = append(forms, s.Title)
	}
	for _, s := range Scenarios {
		forms = append(forms, s.Title)
	}
	for _, s := range Stories {
		forms = append(forms, s.Title)
	}
	story, err := explore.ViewerWords() // some are only on the page of one story
	proof.Must(t, err)
	var used strings.Builder
	for key := range story {
		used.WriteString(`"` + key + `"` + "\n")
	}
	proof.CheckWords(t, words.Module+pageHTML+pageJS+quizJS+explore.ViewerJS+used.String(), tables, forms)
}
