//go:build linux && race

package check

const raceDetector = true
