//go:build linux

package docs_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"lesson/internal/proof"
	"lesson/internal/translation"
	"lesson/internal/words"
)

// translations are the pages of docs/zh, and its quiz.
func translations(t *testing.T) []*page {
	t.Helper()
	var all []*page
	err := filepath.WalkDir(filepath.Join(root, translation.Root), func(file string, e fs.DirEntry, err error) error {
		name, _ := filepath.Rel(root, file) // both are relative to the same folder
		if err != nil || e.IsDir() || name == translation.Terms {
			return err
		}
		text, err := os.ReadFile(file)
		all = append(all, parse(name, string(text)))
		return err
	})
	proof.Must(t, err)
	return all
}

// A translated block has the code, the links, the numbers and the form of the English one,
// and is set as Chinese is. What is stale or missing is known, and is not judged.
func TestTranslations(t *testing.T) {
	terms := terms(t)
	exists := func(file string) bool {
		for _, is := range []string{file, filepath.Join(file, "README.md")} { // a page, or a folder
			if info, err := os.Stat(filepath.Join(root, is)); err == nil && info.Mode().IsRegular() {
				return translation.Holds(file)
			}
		}
		return false
	}
	for _, p := range translations(t) {
		original := translation.Original(p.file)
		english, err := os.ReadFile(filepath.Join(root, original))
		proof.Must(t, err)
		of := translation.Page{At: p.file, English: string(english), Translated: p.text, Exists: exists}
		left := 0
		for _, pair := range of.Prose() {
			if pair[1].State != translation.Current {
				left++
				continue
			}
			wrong := translation.Differences(pair[0].Text, pair[1].Text, p.file, exists)
			for _, one := range terms {
				for _, not := range one.not {
					if strings.Contains(pair[1].Text, not) {
						wrong = append(wrong, not+": write "+one.chinese)
					}
				}
			}
			if len(wrong) > 0 {
				t.Errorf("%s: %s\n%s", p.file, strings.Join(wrong, "\n"), pair[1].Text)
			}
		}
		if left > 0 {
			t.Logf("%s: %d blocks are stale or have no translation", p.file, left)
		}
	}
}

// A term is a row of docs/zh/terms.md.
type term struct {
	english, chinese string
	not              []string
}

var termRow = regexp.MustCompile(`(?m)^\| ([^|]+) \| ([^|]+) \|([^|]*)\|$`)

// terms reads the table of terms: how each is translated, and how not.
func terms(t *testing.T) []term {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, translation.Terms))
	proof.Must(t, err)
	var all []term
	for _, m := range termRow.FindAllStringSubmatch(string(text), -1)[2:] { // the head of the table
		one := term{english: m[1], chinese: m[2]}
		if not := strings.TrimSpace(m[3]); not != "" {
			one.not = strings.Split(not, "、")
		}
		all = append(all, one)
	}
	return all
}

// Each entry of the glossary has a translation, which its Chinese entry has in its heading.
func TestTerms(t *testing.T) {
	chinese := map[string]string{}
	for _, one := range terms(t) {
		chinese[one.english] = one.chinese
		for _, not := range one.not {
			if strings.Contains(one.chinese, not) {
				t.Errorf("%s is %s, which contains %s", one.english, one.chinese, not)
			}
		}
	}
	text, err := os.ReadFile("glossary.md")
	proof.Must(t, err)
	for _, h := range parse("docs/glossary.md", string(text)).headings {
		if h.level == 2 && h.text != rejectedTitle && chinese[h.text] == "" {
			t.Errorf("%s has no row for %q", translation.Terms, h.text)
		}
	}
	for _, p := range translations(t) {
		if p.file != translation.Place("docs/glossary.md") {
			continue
		}
		for _, pair := range (translation.Page{At: p.file, English: string(text), Translated: p.text,
			Exists: func(string) bool { return true }}).Prose() {
			word, isHeading := strings.CutPrefix(pair[0].Text, "## ")
			if want := chinese[word]; isHeading && want != "" && pair[1].State == translation.Current &&
				!strings.HasPrefix(pair[1].Text, "## "+want) {
				t.Errorf("%q is the heading of %s, want %s", pair[1].Text, word, want)
			}
		}
	}
}

// wordsOf reads the table of a page in a language.
func wordsOf(t *testing.T, page, language string) map[string]string {
	t.Helper()
	script, err := os.ReadFile(filepath.Join(root, page, "words", language+".js"))
	proof.Must(t, err)
	table, err := words.Table(string(script))
	proof.Must(t, err)
	return table
}

const (
	tourPage = "internal/tool/tour/page"
	sitePage = "internal/site/page"
)

// What the pages say in Chinese is set as the translated pages are, in their terms.
func TestPagesInChinese(t *testing.T) {
	terms := terms(t)
	value := regexp.MustCompile(`\{\w+\}`)
	for _, page := range []string{tourPage, sitePage} {
		for key, text := range wordsOf(t, page, "zh") {
			// A value is Latin, such as a name, or Chinese.
			wrong := translation.Style(value.ReplaceAllString(text, "x"))
			if other := translation.Style(value.ReplaceAllString(text, "字")); len(other) < len(wrong) {
				wrong = other
			}
			for _, one := range terms {
				for _, not := range one.not {
					if strings.Contains(text, not) {
						wrong = append(wrong, not+": write "+one.chinese)
					}
				}
			}
			for _, what := range wrong {
				t.Errorf("%s: %q: %s: %s", page, key, text, what)
			}
		}
	}
}

// The pages about the tour name its buttons as it does, in bold, each in its language.
func TestNamesOfButtons(t *testing.T) {
	tables := map[string]map[string]string{"en": wordsOf(t, tourPage, "en"), "zh": wordsOf(t, tourPage, "zh")}
	label := func(language, key string) string {
		text, _, _ := strings.Cut(tables[language][key], "{")
		return strings.TrimRight(text, ":： ")
	}
	bold := make(map[string]map[string]bool)
	for language, name := range map[string]string{"en": "tour.md", "zh": "zh/tour.md"} {
		text, err := os.ReadFile(name)
		proof.Must(t, err)
		bold[language] = make(map[string]bool)
		for _, m := range regexp.MustCompile(`\*\*([^*]+)\*\*`).FindAllStringSubmatch(string(text), -1) {
			bold[language][m[1]] = m[1] != "English" && m[1] != "中文" // each names its language
		}
	}
	for _, in := range [][2]string{{"en", "zh"}, {"zh", "en"}} {
		for name, isLabel := range bold[in[0]] {
			found := false
			for key := range tables["en"] {
				found = found || label(in[0], key) == name && bold[in[1]][label(in[1], key)]
			}
			if isLabel && !found {
				t.Errorf("%s: no button is called %q there, and named on the page in the other language", in[0], name)
			}
		}
	}
	if len(bold["en"]) < 10 || len(bold["zh"]) < 10 {
		t.Errorf("buttons are named %v", bold)
	}
}
