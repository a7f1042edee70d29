//go:build linux && !amd64 && !arm64

package proc

// There are no names: calls are named by their numbers.
const callNames = ""
