package kernel

import "embed"

// Sources is the package's source: a program that is explored is built with it.
//
//go:embed described.go faulty.go kernel.go names.go
var Sources embed.FS
