// Package words provides what the pages say in the language of their reader: the sentences
// that Go sends, and the script that finds texts in the tables of a page.
package words

import (
	"fmt"
	"strings"
)

// A Sentence is an English text that a page may show in another language. The page finds it
// by its form; by its text if it has no arguments.
type Sentence struct {
	Text string `json:"text"`
	Form string `json:"form,omitempty"` // of package fmt: what Text was made from
	Args []any  `json:"args,omitempty"` // plain values, and other sentences
}

// A List is an argument of several words, which a page joins as its language does.
type List []string

func (l List) String() string { return strings.Join(l, ", ") }

// Say returns the sentence that fmt.Sprintf makes.
func Say(form string, args ...any) Sentence {
	s := Sentence{Text: fmt.Sprintf(form, args...), Args: args}
	if len(args) > 0 {
		s.Form = form
	}
	return s
}

// An Error is a Sentence about what has failed.
type Error struct{ Sentence }

func (e Error) Error() string { return e.Text }

// String returns the English text.
func (s Sentence) String() string { return s.Text }
