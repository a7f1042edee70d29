package explore

import "embed"

// Sources is the part of this package that a program of its own is built with.
//
//go:embed actors.go judge.go chooser.go child.go execution.go faults.go scenario.go search.go story.go told.go
var Sources embed.FS
