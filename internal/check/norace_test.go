//go:build linux && !race

package check

const raceDetector = false
