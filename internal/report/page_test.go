package report

import (
	"errors"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// wholePage is a page of all samples, and how many charts are on it.
func wholePage(t *testing.T) (html string, charts int) {
	page := Page{Title: hostile, Lead: hostile, Foot: []string{hostile}}
	all := samples()
	var names []string
	for name := range all {
		names = append(names, name)
	}
	slices.Sort(names)
	section := Section{Title: hostile, Text: []string{hostile},
		Table: &Table{Head: []string{hostile}, Rows: [][]string{{hostile}}}}
	for _, name := range names {
		section.Charts = append(section.Charts, all[name])
	}
	page.Sections = []Section{section, section, {}}
	var out strings.Builder
	if err := page.Write(&out); err != nil {
		t.Fatal(err)
	}
	return out.String(), 2 * len(names)
}

func TestPageNeedsNothingElse(t *testing.T) {
	html, _ := wholePage(t)
	const csp = `<meta http-equiv="Content-Security-Policy"` + "\n" +
		` content="default-src 'none'; style-src 'unsafe-inline'">`
	if !strings.Contains(html, csp) {
		t.Errorf("no %s", csp)
	}
	own := strings.ReplaceAll(html, `xmlns="http://www.w3.org/2000/svg"`, "")
	for _, outside := range []string{"://", " src=", "href", "@import", "<script", "<link", "<img",
		"url(\"", "url(h", "url(/", "javascript:", "data:", "ZgotmplZ"} {
		if strings.Contains(own, outside) {
			t.Errorf("the page has %q", outside)
		}
	}
	for _, r := range html {
		if r < ' ' && r != '\n' {
			t.Errorf("the page has %q", r)
		}
	}
}

func TestPageTellsOfEveryChart(t *testing.T) {
	html, charts := wholePage(t)
	for _, part := range []string{"<figure>", "<figcaption>", "<details>", "role=\"img\"",
		"<desc id="} {
		if n := strings.Count(html, part); n != charts {
			t.Errorf("%d of %s, want one for each of %d charts", n, part, charts)
		}
	}
	for _, figure := range strings.Split(html, "<figure>")[1:] {
		details := figure[strings.Index(figure, "<details>"):strings.Index(figure, "</details>")]
		if !strings.Contains(details, "<table>") || !strings.Contains(figure, "-title\">") {
			t.Errorf("no table or title in\n%s", figure)
		}
	}
	if n := strings.Count(html, "no place on the axes.</p>"); n != 14 {
		t.Errorf("%d tables say that values are left out, want 14", n)
	}
}

func TestPageHasAnIdOnce(t *testing.T) {
	html, _ := wholePage(t)
	defined := map[string]bool{}
	for _, m := range regexp.MustCompile(` id="([^"]*)"`).FindAllStringSubmatch(html, -1) {
		if defined[m[1]] {
			t.Errorf("id %s stands twice", m[1])
		}
		defined[m[1]] = true
	}
	for _, m := range regexp.MustCompile(`url\(#([^)]*)\)`).FindAllStringSubmatch(html, -1) {
		if !defined[m[1]] {
			t.Errorf("nothing has the id %s", m[1])
		}
	}
}

func TestPageIsTheSameAgain(t *testing.T) {
	first, _ := wholePage(t)
	if second, _ := wholePage(t); first != second {
		t.Error("written twice, it differs")
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left") }

func TestPageTellsThatItIsNotWritten(t *testing.T) {
	if err := (&Page{}).Write(full{}); err == nil {
		t.Error("no error")
	}
}
