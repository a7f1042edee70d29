//go:build linux

package main

import (
	"fmt"
	"strings"

	"lesson/internal/kernel/simulated"
)

// epollRules returns the rules of docs/epoll-semantics.md, by section: each a sentence and
// the vector that tests it.
func epollRules() map[string]string {
	texts := make(map[string]string)
	for _, v := range simulated.Vectors() {
		rule := fmt.Sprintf("**%s**\n\n", v.Rule)
		manual := v.Manual
		if manual == "" {
			manual = "The manual does not say."
		}
		rule += fmt.Sprintf("> %s\n\n", manual)
		texts[slug(v.Section)] += rule + fmt.Sprintf("```\n%s\n```\n\n", strings.Join(v.Lines, "\n"))
	}
	for section, text := range texts {
		texts[section] = strings.TrimSuffix(text, "\n\n")
	}
	return texts
}

// slug returns the name of a section in a mark of the page.
func slug(section string) string {
	return strings.ReplaceAll(strings.ToLower(section), " ", "-")
}
