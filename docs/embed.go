// Package docs carries the chapters, so that one program holds everything.
//
// Code in a chapter is not typed but quoted: `go generate ./docs` takes it from
// the source files, and a test fails when the two have drifted apart.
package docs

import "embed"

//go:generate sh -c "go tool embedmd -w *.md"

// Chapters is every page of the documentation.
//
//go:embed *.md
var Chapters embed.FS
