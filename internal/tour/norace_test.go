//go:build linux && !race

package tour_test

const raceDetector = false
