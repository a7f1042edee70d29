package server

import "embed"

// Sources holds the source of the package, for the lessons' build for the browser.
//
//go:embed deadline.go server.go table.go
var Sources embed.FS
