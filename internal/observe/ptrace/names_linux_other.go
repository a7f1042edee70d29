//go:build linux && !amd64 && !arm64

package ptrace

// No names: calls are counted by number.
const nativeArch, callNames = 0, ""
