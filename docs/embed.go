// Package docs carries the chapters, the exercises and the quiz, so that one program
// holds everything.
//
// Code in a chapter is not typed but quoted, figures are those that were measured, and
// counts are counted: `go generate ./docs` fills them in, and a test fails when a page
// differs from what would be generated.
package docs

import (
	"cmp"
	"embed"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"lesson/internal/translation"
)

//go:generate go run ../internal/generate ..

// Chapters is every page of the documentation.
//
//go:embed *.md
var Chapters embed.FS

// Exercises holds the folder exercises: servers that are broken on purpose. What has
// been built or recorded there stays out.
//
//go:embed exercises/*.txt exercises/README.md exercises/*/main.go exercises/*/README.md
//go:embed exercises/*/cases.txt exercises/*/solution.patch
var Exercises embed.FS

// Quiz is the folder quiz: answers to choose from, for the chapters' questions.
//
//go:embed quiz/*.txt
var Quiz embed.FS

//go:embed zh
var chinese embed.FS

// The languages in which the pages can be read.
const (
	English = "en"
	Chinese = "zh"
)

// Language returns the language with that name, or, if there is no name, the one that the
// environment asks for: the first of LC_ALL, LC_MESSAGES and LANG that is set, as in
// locale(7).
func Language(name string, getenv func(string) string) (string, error) {
	switch name {
	case English, Chinese:
		return name, nil
	case "":
		locale := cmp.Or(getenv("LC_ALL"), getenv("LC_MESSAGES"), getenv("LANG"))
		if strings.HasPrefix(locale, Chinese) {
			return Chinese, nil
		}
		return English, nil
	}
	return "", fmt.Errorf("no language %q; there are %s (English) and %s (Chinese)", name, English, Chinese)
}

// In returns Chapters, Exercises or Quiz in a language. A page without a translation is the
// English one. In a page, a block without a current translation is English, after a note.
func In(language string, pages embed.FS) fs.FS {
	if language != Chinese {
		return pages
	}
	return inChinese{pages}
}

type inChinese struct{ embed.FS }

// stale is the note before a block that is English because its translation is missing, or
// is that of an earlier text.
const stale = "> 这一段还没有最新的译文，下面是英文原文。"

func (pages inChinese) ReadFile(name string) ([]byte, error) {
	english, err := pages.FS.ReadFile(name)
	if err != nil {
		return nil, err
	}
	at := path.Join("zh", name)
	translated, err := chinese.ReadFile(at)
	if err != nil {
		return english, nil // it has not been translated
	}
	note := stale
	if path.Ext(name) != ".md" {
		note = ""
	}
	page := translation.Page{At: path.Join("docs", at), English: string(english), Translated: string(translated),
		Exists: func(string) bool { return false }} // the links stay those of the English page
	return []byte(page.Shown(note)), nil
}
