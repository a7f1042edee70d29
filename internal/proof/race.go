//go:build race

package proof

// Detector reports whether this program has the race detector.
const Detector = true
