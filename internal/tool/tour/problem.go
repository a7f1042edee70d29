//go:build linux

package tour

import (
	"errors"
	"fmt"
	"net/http"
)

// A problem is an error for a page, with what to try.
type problem struct {
	status int
	what   string
	advice string
}

func (p *problem) Error() string { return p.what }

func (p *problem) hint(text string) *problem {
	p.advice = text
	return p
}

func badRequest(format string, args ...any) *problem {
	return &problem{status: http.StatusBadRequest, what: fmt.Sprintf(format, args...)}
}

func forbidden(format string, args ...any) *problem {
	return &problem{status: http.StatusForbidden, what: fmt.Sprintf(format, args...)}
}

func notFound(format string, args ...any) *problem {
	return &problem{status: http.StatusNotFound, what: fmt.Sprintf(format, args...)}
}

func gone(what string) *problem {
	return &problem{status: http.StatusGone, what: what}
}

func tooMany(format string, args ...any) *problem {
	return &problem{status: http.StatusTooManyRequests, what: fmt.Sprintf(format, args...)}
}

// failure is something that went wrong with a server: the page shows it there, too.
func failure(err error) *problem {
	return &problem{status: http.StatusUnprocessableEntity, what: err.Error(), advice: hintOf(err)}
}

// hintOf is what to try, if the error says so.
func hintOf(err error) string {
	var p *problem
	if errors.As(err, &p) {
		return p.advice
	}
	return ""
}
