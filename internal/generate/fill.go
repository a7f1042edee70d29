//go:build linux

package main

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

var (
	opening = regexp.MustCompile(`^<!-- figures (\S+) -->$`)
	closing = "<!-- /figures -->"
)

// fill puts each text between its two markers, which stand on lines of their own:
//
//	<!-- figures bench:cost -->
//	<!-- /figures -->
//
// Markers inside of a fenced block are text.
func fill(page string, texts map[string]string) (string, error) {
	var out strings.Builder
	open, fenced := "", false
	number := 0
	for line := range strings.Lines(page) {
		number++
		text := strings.TrimRight(line, "\r\n")
		if open == "" && strings.HasPrefix(text, "```") {
			fenced = !fenced
		}
		m := opening.FindStringSubmatch(text)
		switch {
		case fenced:
			out.WriteString(line)
		case m != nil && open != "":
			return "", fmt.Errorf("line %d: %s is not closed", number, open)
		case m != nil:
			open = m[1]
			figure, known := texts[open]
			if !known {
				return "", fmt.Errorf("line %d: no figures %q; there are %s", number, open,
					list(texts))
			}
			out.WriteString(line + "\n" + strings.TrimRight(figure, "\n") + "\n\n")
		case text == closing && open == "":
			return "", fmt.Errorf("line %d: nothing to close", number)
		case text == closing:
			open = ""
			out.WriteString(line)
		case open == "":
			out.WriteString(line)
		}
	}
	if open != "" {
		return "", fmt.Errorf("%s is not closed", open)
	}
	return out.String(), nil
}

var (
	count      = regexp.MustCompile(`<!-- count (\S+) -->[^<]*<!-- /count -->`)
	lineBegins = regexp.MustCompile(`(?m)^ *<!-- count \S+ -->`)
)

// fillCounts puts each count between its two markers, which stand within a sentence:
// <!-- count cases -->74<!-- /count -->. A marker must not begin its line, because that
// would end the paragraph.
func fillCounts(page string, counts map[string]string) (string, error) {
	if m := lineBegins.FindString(page); m != "" {
		return "", fmt.Errorf("%q begins a line: put a word before it", m)
	}
	var err error
	filled := count.ReplaceAllStringFunc(page, func(marked string) string {
		name := count.FindStringSubmatch(marked)[1]
		if counts[name] == "" {
			err = fmt.Errorf("no count %q; there are %s", name, list(counts))
		}
		return fmt.Sprintf("<!-- count %s -->%s<!-- /count -->", name, counts[name])
	})
	return filled, err
}

func list(texts map[string]string) string {
	return strings.Join(slices.Sorted(maps.Keys(texts)), ", ")
}
