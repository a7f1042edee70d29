//go:build linux

package crowd

import (
	"math"
	"testing"
)

func TestFit(t *testing.T) {
	for _, c := range []struct {
		name                 string
		points               []Point
		slope, intercept, r2 float64
	}{
		{"on a line", []Point{{1, 5}, {2, 7}, {4, 11}}, 2, 3, 1},
		{"two points", []Point{{1000, 88_000}, {5000, 440_000}}, 88, 0, 1},
		// By hand: means 3 and 4; Sxx 8, Sxy 8, Syy 8.
		{"one size twice", []Point{{1, 2}, {3, 4}, {5, 6}, {3, 4}}, 1, 1, 1},
		{"scattered", []Point{{0, 0}, {1, 2}, {2, 1}, {3, 3}}, 0.8, 0.3, 0.64},
		{"flat", []Point{{1, 6}, {2, 6}, {3, 6}}, 0, 6, 0},
		{"falling", []Point{{0, 4}, {2, 0}}, -2, 4, 1},
	} {
		f, ok := FitLine(c.points)
		near := func(a, b float64) bool { return math.Abs(a-b) < 1e-9*max(1, math.Abs(b)) }
		if !ok || !near(f.Slope, c.slope) || !near(f.Intercept, c.intercept) || !near(f.R2, c.r2) {
			t.Errorf("%s: %+v, %v, want slope %v, intercept %v, R² %v",
				c.name, f, ok, c.slope, c.intercept, c.r2)
		}
		if f.Points != len(c.points) {
			t.Errorf("%s: through %d points, want %d", c.name, f.Points, len(c.points))
		}
	}
	if f, _ := FitLine([]Point{{1, 5}, {2, 7}}); f.At(1e6) != 2e6+3 {
		t.Errorf("at a million: %v, want %v", f.At(1e6), 2e6+3)
	}
}

func TestNoLineThroughOneSize(t *testing.T) {
	for _, points := range [][]Point{nil, {{5, 1}}, {{5, 1}, {5, 2}}} {
		if f, ok := FitLine(points); ok {
			t.Errorf("%v: %+v, want no line", points, f)
		}
	}
}
