//go:build linux && !race

package exercise

const raceDetector = false
