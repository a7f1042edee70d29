package docs_test

import (
	"io/fs"
	"strings"
	"testing"

	"lesson/docs"
)

// The language is the one that was asked for, or that of the environment.
func TestLanguage(t *testing.T) {
	for _, test := range []struct{ name, lcAll, lang, want string }{
		{want: "en"},
		{name: "zh", lang: "en_GB.UTF-8", want: "zh"},
		{name: "en", lang: "zh_CN.UTF-8", want: "en"},
		{lang: "zh_CN.UTF-8", want: "zh"},
		{lang: "de_DE.UTF-8", want: "en"},
		{lcAll: "C", lang: "zh_CN.UTF-8", want: "en"},
		{name: "de"},
	} {
		environment := map[string]string{"LC_ALL": test.lcAll, "LANG": test.lang}
		got, err := docs.Language(test.name, func(name string) string { return environment[name] })
		if got != test.want || (err != nil) != (test.want == "") {
			t.Errorf("%+v: %q, %v", test, got, err)
		}
	}
}

// In Chinese, a page is what docs/zh has of it, without the comments that only keep it
// beside the English one, and English where there is nothing.
func TestIn(t *testing.T) {
	in := docs.In(docs.Chinese, docs.Chapters)
	text, err := fs.ReadFile(in, "glossary.md")
	if err != nil || strings.Contains(string(text), "<!-- todo") || !strings.Contains(string(text), "# ") {
		t.Errorf("the glossary begins with %.80q, %v", text, err)
	}
	if _, err := fs.ReadFile(in, "nosuch.md"); err == nil {
		t.Error("a page that does not exist was read")
	}
	english, err := fs.ReadFile(in, "ARCHITECTURE.md")
	if err != nil || !strings.HasPrefix(string(english), "# ") {
		t.Errorf("a page without a translation begins with %.80q, %v", english, err)
	}
}
