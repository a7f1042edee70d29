package kernel

import "embed"

// Sources is the package's source: a program that is explored is built with it.
//
//go:embed kernel.go faulty.go
var Sources embed.FS
