//go:build linux && !amd64 && !arm64

package syscount

// No names: calls are counted by number.
const nativeArch, callNames = 0, ""
