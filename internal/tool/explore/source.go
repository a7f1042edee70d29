package explore

import (
	"embed"

	"lesson/internal/words"
)

// Sources is the part of this package that a program of its own is built with.
//
//go:embed actors.go judge.go perform.go chooser.go child.go execution.go faults.go order.go scenario.go search.go states.go story.go told.go
var Sources embed.FS

// The viewer of stories, on the page of one story and on the site.
var (
	//go:embed page/viewer.js
	ViewerJS string
	//go:embed page/words.js
	viewerWords string
	//go:embed page/viewer.css
	ViewerCSS string
)

// ViewerWords returns what the viewer says in English, by its keys. The page that holds it
// has a table of words: see package words.
func ViewerWords() (map[string]string, error) { return words.Table(viewerWords) }
