// Package docs carries the chapters, the exercises and the quiz, so that one program
// holds everything.
//
// Code in a chapter is not typed but quoted, figures are those that were measured, and
// counts are counted: `go generate ./docs` fills them in, and a test fails when a page
// differs from what would be generated.
package docs

import "embed"

//go:generate go run ../internal/generate ..

// Chapters is every page of the documentation.
//
//go:embed *.md
var Chapters embed.FS

// Exercises holds the folder exercises: servers that are broken on purpose. What has
// been built or recorded there stays out.
//
//go:embed exercises/*.txt exercises/*/main.go exercises/*/README.md
//go:embed exercises/*/cases.txt exercises/*/solution.patch
var Exercises embed.FS

// Quiz is the folder quiz: answers to choose from, for the chapters' questions.
//
//go:embed quiz/*.txt
var Quiz embed.FS
