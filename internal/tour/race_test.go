//go:build linux && race

package tour_test

// raceDetector: the servers are several times slower.
const raceDetector = true
