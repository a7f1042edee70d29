// Package docs carries the chapters and the exercises, so that one program holds
// everything.
//
// Code in a chapter is not typed but quoted: `go generate ./docs` takes it from
// the source files, and a test fails when the two have drifted apart. The page
// that lists the exercises is made in the same way, and so are the figures that
// scripts/measure.sh has measured.
package docs

import "embed"

//go:generate sh -c "go tool embedmd -w *.md"
//go:generate go run ../internal/tool/exercise/matrix exercises/README.md
//go:generate sh -c "go run ../internal/figures/fill results ../README.md *.md"

// Chapters is every page of the documentation.
//
//go:embed *.md
var Chapters embed.FS

// Exercises is the folder exercises: servers that are wrong on purpose. What
// somebody has built or recorded there stays out.
//
//go:embed exercises/*.txt exercises/*/main.go exercises/*/README.md
//go:embed exercises/*/cases.txt exercises/*/solution.patch
var Exercises embed.FS

// Quiz is the folder quiz: answers to choose from, for the chapters' questions.
//
//go:embed quiz/*.txt
var Quiz embed.FS
