//go:build linux

package simulated

import (
	_ "embed"
	"fmt"
	"strings"
)

//go:embed vectors.txt
var vectors string

// A Vector is one rule of what epoll and TCP sockets do, as calls and their results.
type Vector struct {
	Section string
	Rule    string
	Manual  string   // the sentence of a manual page that states it, after the page; "" for none
	Lines   []string // each a call, and what it returns after "="
	Line    int      // of the line before Lines in vectors.txt
}

// noManual is what a rule has without a line about the manual: a test refuses it.
const noManual = "no line begins with |"

// Vectors returns all of them, in order.
func Vectors() []Vector {
	var all []Vector
	section := ""
	for i, line := range strings.Split(vectors, "\n") {
		switch {
		case line == "" || strings.HasPrefix(line, "#"):
		case strings.HasPrefix(line, "== "):
			section = line[3:]
		case strings.HasPrefix(line, "-- "):
			all = append(all, Vector{Section: section, Rule: line[3:], Manual: noManual, Line: i + 1})
		case strings.HasPrefix(line, "|"):
			v := &all[len(all)-1]
			v.Manual, v.Line = strings.TrimSpace(line[1:]), i+1
		default:
			v := &all[len(all)-1]
			v.Lines = append(v.Lines, line)
		}
	}
	return all
}

// ParseCall splits a line of a vector: "A = accept L" has a name and no result,
// "read A 10 = 5" a result and no name. A result may be empty: "wait E =".
func ParseCall(line string) (name string, words []string, result string, err error) {
	left, right, found := strings.Cut(line, "=")
	fields := strings.Fields(left)
	switch {
	case len(fields) == 1 && found:
		return fields[0], strings.Fields(right), "", nil
	case len(fields) > 1:
		return "", fields, strings.TrimSpace(right), nil
	}
	return "", nil, "", fmt.Errorf("%q is no call", line)
}
