package blocking

import "embed"

// Source holds the lesson's own code, so that the program can show it.
//
//go:embed loop.go once.go
var Source embed.FS
