//go:build race

package unraced

// Detector says whether this program has the race detector.
const Detector = true
