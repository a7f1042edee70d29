package protocol

import "embed"

// Sources holds the source of the package, for the lessons' build for the browser.
//
//go:embed protocol.go
var Sources embed.FS
