//go:build linux

package exercise

import (
	"strings"
	"testing"
)

func TestParseReadme(t *testing.T) {
	r, err := parseReadme(goodReadme)
	if err != nil {
		t.Fatal(err)
	}
	for what, pair := range map[string][2]string{
		"title":    {r.title, "One read per edge"},
		"symptom":  {r.quote, "\"Big requests hang. Small ones\nare fine.\""},
		"about":    {r.about, "A server, edge-triggered: see [chapter 5](../../05-edge-triggered.md)."},
		"chapter":  {r.chapter, "05-edge-triggered.md"},
		"look":     {r.look, "```sh\n# comment\ncurl http://127.0.0.1:8080/\n```\n\nIt hangs."},
		"hint 1":   {r.hints[0], "Read."},
		"hint 2":   {r.hints[1], "Read again.\n\n```go\n## not a heading\n</details>\n```"},
		"hint 3":   {r.hints[2], "Read up to EAGAIN."},
		"solution": {r.solution, "A loop around read.\n\n### In the wild\n\nIt has happened."},
	} {
		if pair[0] != pair[1] {
			t.Errorf("the %s is %q, want %q", what, pair[0], pair[1])
		}
	}
	if r.number != 6 || len(r.hints) != 3 {
		t.Errorf("number %d, %d hints", r.number, len(r.hints))
	}
}

// A README of another shape is refused, with what is wrong with it.
func TestReadmeHasOneShape(t *testing.T) {
	tests := []struct{ what, old, with, want string }{
		{"no number", "# 06 One", "# One", "title"},
		{"no title", "# 06 One read per edge\n", "", "paragraphs before"},
		{"no symptom", "> \"Big requests hang. Small ones\n> are fine.\"\n", "", "paragraphs before"},
		{"a symptom that is not quoted", "> \"Big", "\"Big", "symptom"},
		{"a symptom without marks", "> are fine.\"", "> are fine.", "symptom"},
		{"no chapter", "](../../05-edge-triggered.md)", "](../05-edge-triggered.md)", "no chapter"},
		{"two paragraphs about it", "A server,", "A server.\n\nIt is", "4 paragraphs"},
		{"no commands", "```sh", "```console", "no ```sh block"},
		{"no first look", "## First look", "## A look", "sections are"},
		{"a section more", "## Hints", "## More\n\n## Hints", "sections are"},
		{"no third hint", "<details><summary>Hint 3</summary>\n\nRead up to EAGAIN.\n\n</details>\n",
			"", "2 hints"},
		{"a hint by another name", "Hint 2", "Hint two", `"Hint 2"`},
		{"an empty hint", "Read.\n", "", "hint 1 is empty"},
		{"a hint that is open", "Read.\n\n</details>", "Read.", "hint"},
		{"text between the hints", "<details><summary>Hint 2", "And:\n<details><summary>Hint 2", "4 hints"},
		{"a solution by another name", "The change, and why it works", "The change", "solution"},
		{"nothing about the wild", "### In the wild\n", "", "In the wild"},
		{"nothing in the wild", "It has happened.\n", "", "In the wild"},
		{"nothing but the wild", "A loop around read.\n", "", "In the wild"},
		{"text after the solution", "It has happened.\n\n</details>\n",
			"It has happened.\n\n</details>\n\nMore.\n", "solution"},
	}
	for _, test := range tests {
		text := strings.Replace(goodReadme, test.old, test.with, 1)
		if text == goodReadme {
			t.Fatalf("%s: the test changes nothing", test.what)
		}
		if _, err := parseReadme(text); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: the error is %v, want one with %q", test.what, err, test.want)
		}
	}
}
