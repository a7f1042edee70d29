//go:build linux && race

package crowd

const raceDetector = true
