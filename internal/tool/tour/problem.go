//go:build linux

package tour

import (
	"errors"
	"net/http"

	"lesson/internal/words"
)

// A problem is an error for a page, with what to try.
type problem struct {
	status int
	what   words.Sentence
	advice words.Sentence
}

// Error returns both in one line, for the command line.
func (p *problem) Error() string {
	if p.advice.Text == "" {
		return p.what.Text
	}
	return p.what.Text + "; " + p.advice.Text
}

func (p *problem) hint(form string, args ...any) *problem {
	p.advice = words.Say(form, args...)
	return p
}

func badRequest(form string, args ...any) *problem {
	return &problem{status: http.StatusBadRequest, what: words.Say(form, args...)}
}

func forbidden(form string, args ...any) *problem {
	return &problem{status: http.StatusForbidden, what: words.Say(form, args...)}
}

func notFound(form string, args ...any) *problem {
	return &problem{status: http.StatusNotFound, what: words.Say(form, args...)}
}

func gone(what string) *problem {
	return &problem{status: http.StatusGone, what: words.Sentence{Text: what}}
}

func tooMany(form string, args ...any) *problem {
	return &problem{status: http.StatusTooManyRequests, what: words.Say(form, args...)}
}

// failure is something that went wrong with a server: the page shows it there, too.
func failure(err error) *problem {
	return &problem{status: http.StatusUnprocessableEntity, what: sentenceOf(err), advice: hintOf(err)}
}

// hintOf is what to try, if the error says so.
func hintOf(err error) words.Sentence {
	var p *problem
	if errors.As(err, &p) {
		return p.advice
	}
	return words.Sentence{}
}

// sentenceOf returns an error as a sentence, which a page has in its language if the error
// is a problem.
func sentenceOf(err error) words.Sentence {
	if p, ok := err.(*problem); ok {
		return p.what
	}
	return words.Sentence{Text: err.Error()}
}
