package kernel

import "embed"

// Sources holds the source of the package, for the build of a program that is explored.
//
//go:embed described.go faulty.go kernel.go names.go
var Sources embed.FS
