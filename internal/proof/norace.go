//go:build !race

package proof

// Detector says whether this program has the race detector.
const Detector = false
