package edgetriggered

import "embed"

// Source holds the lesson's own code, so that the program can show it.
//
//go:embed eventloop.go
var Source embed.FS
