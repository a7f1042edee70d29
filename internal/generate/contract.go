//go:build linux

package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"lesson/internal/tool/check"
)

// A rule of docs/contract.md is cited in four ways.
var (
	// The name of a subtest: "B7 a failing call costs one client at most".
	subtest = regexp.MustCompile("[\"`/](B\\d+) ([^\"`]+)[\"`]")
	// The end of a test's comment: "Contract: B7, B8."
	comment = regexp.MustCompile(`(?m)^// (?:.* )?Contract: ([B\d, ]+)\.\nfunc (Test\w+)`)
	// A comment of a test script.
	script = regexp.MustCompile(`(?m)^# (?:.* )?Contract: ([B\d, ]+)\.$`)
	// A link from a page.
	linked = regexp.MustCompile(`contract\.md#(b\d+)`)
)

var (
	heading = regexp.MustCompile(`(?m)^## (B\d+)$`)
	title   = regexp.MustCompile(`(?m)^# (.+)$`)
)

// A citation is a file that cites a rule, and what it says about it: the names of its
// subtests, or the title of a page.
type citation struct {
	file string // from root
	says []string
}

// rules returns for each rule of docs/contract.md the tests, the cases and the pages that
// cite it, as a list in Markdown. It is an error if no test cites a rule, or if something
// cites a rule that does not exist.
func rules(root string, pages []string) (map[string]string, error) {
	contract, err := os.ReadFile(filepath.Join(root, "docs", "contract.md"))
	if err != nil {
		return nil, err
	}
	tests, err := citingTests(root)
	if err != nil {
		return nil, err
	}
	chapters, err := citingPages(root, pages)
	if err != nil {
		return nil, err
	}
	cases := make(map[string][]string)
	for _, c := range check.Cases() {
		cases[c.Contract] = append(cases[c.Contract], "`"+c.Address+"`")
	}
	lists := make(map[string]string)
	for _, m := range heading.FindAllStringSubmatch(string(contract), -1) {
		rule := m[1]
		if len(tests[rule]) == 0 {
			return nil, fmt.Errorf("docs/contract.md: no test cites %s: "+
				`name a subtest "%s …", or write "Contract: %s." above a test`, rule, rule, rule)
		}
		lists[rule] = tests.list(rule)
		if len(cases[rule]) > 0 {
			lists[rule] += "- `lesson check`: " + strings.Join(cases[rule], ", ") + "\n"
		}
		lists[rule] += chapters.list(rule)
	}
	for _, cited := range []citations{tests, chapters} {
		for rule, by := range cited {
			if lists[rule] == "" {
				return nil, fmt.Errorf("docs/contract.md has no rule %s, which %s cites", rule,
					by[0].file)
			}
		}
	}
	return lists, nil
}

// citations are the files that cite a rule, by the name of the rule.
type citations map[string][]citation

func (c citations) add(rule, file, says string) {
	files := c[rule]
	if n := len(files); n == 0 || files[n-1].file != file {
		files = append(files, citation{file: file})
	}
	last := &files[len(files)-1]
	if says != "" && !slices.Contains(last.says, says) {
		last.says = append(last.says, says)
	}
	c[rule] = files
}

// list returns the files that cite a rule as a list in Markdown, with links from docs.
func (c citations) list(rule string) string {
	var list strings.Builder
	for _, by := range c[rule] {
		target, inDocs := strings.CutPrefix(by.file, "docs/")
		if !inDocs {
			target = "../" + by.file
		}
		text, says := by.file, strings.Join(by.says, "; ")
		if inDocs {
			text, says = says, ""
		}
		if says != "" {
			says = ": " + says
		}
		fmt.Fprintf(&list, "- [%s](%s)%s\n", text, target, says)
	}
	return list.String()
}

// citingTests returns what the tests and the test scripts below root cite.
func citingTests(root string) (citations, error) {
	cited := make(citations)
	err := filepath.WalkDir(root, func(file string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			if err == nil && strings.HasPrefix(entry.Name(), ".") && file != root {
				err = fs.SkipDir
			}
			return err
		}
		test := strings.HasSuffix(file, "_test.go")
		if !test && filepath.Ext(file) != ".txtar" {
			return nil
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, file)
		if err != nil {
			return err
		}
		if test {
			cited.addTests(name, string(text))
			return nil
		}
		for _, m := range script.FindAllStringSubmatch(string(text), -1) {
			for rule := range strings.SplitSeq(m[1], ", ") {
				cited.add(rule, name, "")
			}
		}
		return nil
	})
	return cited, err
}

// addTests adds what a file of tests cites.
func (c citations) addTests(name, text string) {
	for _, m := range subtest.FindAllStringSubmatch(text, -1) {
		c.add(m[1], name, m[2])
	}
	for _, m := range comment.FindAllStringSubmatch(text, -1) {
		for rule := range strings.SplitSeq(m[1], ", ") {
			c.add(rule, name, m[2])
		}
	}
}

// citingPages returns what the pages cite, other than docs/contract.md itself.
func citingPages(root string, pages []string) (citations, error) {
	cited := make(citations)
	for _, file := range pages {
		if filepath.Base(file) == "contract.md" {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		name, err := filepath.Rel(root, file)
		if err != nil {
			return nil, err
		}
		first := title.FindStringSubmatch(string(text))
		if first == nil {
			return nil, fmt.Errorf("%s has no title", name)
		}
		for _, m := range linked.FindAllStringSubmatch(string(text), -1) {
			cited.add(strings.ToUpper(m[1]), name, first[1])
		}
	}
	return cited, nil
}
