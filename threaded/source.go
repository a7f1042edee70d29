package threaded

import "embed"

// Source holds the lesson's own code, so that the program can show it.
//
//go:embed netpoll.go threaded.go
var Source embed.FS
