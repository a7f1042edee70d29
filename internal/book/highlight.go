//go:build linux

package book

import (
	"html"
	"regexp"
	"strings"
	"sync"
)

// languages holds, for each language with colours, what has one: a group of the
// expression for each, named like its class in the page's style. The first that
// matches counts, so a keyword in a comment is a comment.
var languages = map[string]func() *regexp.Regexp{
	"go": sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`(?P<comment>//[^\n]*|(?s:/\*.*?\*/))` +
			"|(?P<string>`[^`]*`" + `|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])+')` +
			`|\b(?P<numeral>\d[\w.]*)` +
			`|\b(?P<keyword>break|case|chan|const|continue|default|defer|else|fallthrough|for|` +
			`func|go|goto|if|import|interface|map|package|range|return|select|struct|switch|type|` +
			`var|any|bool|byte|comparable|complex128|complex64|error|float32|float64|int|int16|` +
			`int32|int64|int8|rune|string|uint|uint16|uint32|uint64|uint8|uintptr|true|false|` +
			`nil|iota)\b` +
			`|\b(?P<builtin>append|cap|clear|close|complex|copy|delete|imag|len|make|max|min|` +
			`new|panic|print|println|real|recover)\(` +
			`|\b(?P<function>[A-Za-z_]\w*)\(`)
	}),
	"python": sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`(?P<comment>#[^\n]*)` +
			`|(?P<string>(?:\b[bBfFrRuU]{1,2})?(?:(?s:""".*?"""|'''.*?''')` +
			`|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'))` +
			`|\b(?P<numeral>\d[\w.]*)` +
			`|\b(?P<keyword>and|as|assert|async|await|break|class|continue|def|del|elif|else|` +
			`except|finally|for|from|global|if|import|in|is|lambda|nonlocal|not|or|pass|raise|` +
			`return|try|while|with|yield|True|False|None)\b` +
			`|\b(?P<builtin>bytes|enumerate|float|int|isinstance|len|list|max|min|open|print|` +
			`range|set|sorted|str|sum|tuple|zip)\(` +
			`|\b(?P<function>[A-Za-z_]\w*)\(`)
	}),
}

// A Token is a part of a line of source code: the class of its colour, "" for none, and its
// text.
type Token [2]string

// Tokens returns source code line by line. A language that is not in languages has no
// colours.
func Tokens(language, code string) [][]Token {
	code = strings.TrimSuffix(code, "\n")
	lines := [][]Token{{}}
	add := func(class, text string) {
		for i, part := range strings.Split(text, "\n") {
			if i > 0 {
				lines = append(lines, []Token{})
			}
			if part != "" {
				last := len(lines) - 1
				lines[last] = append(lines[last], Token{class, part})
			}
		}
	}
	done := 0
	if coloured, known := languages[language]; known {
		for _, match := range coloured().FindAllStringSubmatchIndex(code, -1) {
			for group, class := range coloured().SubexpNames() {
				from, to := match[2*group], match[2*group+1]
				if class == "" || from < 0 {
					continue
				}
				add("", code[done:from])
				add(class, code[from:to])
				done = to
			}
		}
	}
	add("", code[done:])
	return lines
}

// Highlight returns Tokens as HTML, line by line: those with a class in spans, and all text
// escaped.
func Highlight(language, code string) []string {
	var lines []string
	for _, tokens := range Tokens(language, code) {
		var b strings.Builder
		for _, t := range tokens {
			text := html.EscapeString(t[1])
			if t[0] != "" {
				text = `<span class="` + t[0] + `">` + text + `</span>`
			}
			b.WriteString(text)
		}
		lines = append(lines, b.String())
	}
	return lines
}

func plainLines(code string) []string {
	return strings.Split(html.EscapeString(code), "\n")
}
