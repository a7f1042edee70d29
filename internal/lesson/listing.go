//go:build linux

package lesson

import (
	"fmt"
	"strings"

	"lesson/internal/report"
)

// Listing returns the lessons and their variants as a table.
func Listing() *report.Table {
	t := &report.Table{Left: 3, Width: 80,
		Head: []string{"STEP", "COMMAND", "WHAT IT IS, THE CHAPTER, THE FILES"}}
	for _, l := range All() {
		t.Rows = append(t.Rows, []string{fmt.Sprint(l.Step), l.Command, l.Title},
			[]string{"", "", l.Chapter}, []string{"", "", strings.Join(l.Files, ", ")})
	}
	return t
}
