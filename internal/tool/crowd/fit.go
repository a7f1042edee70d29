//go:build linux

package crowd

import "math"

// A Point is one measurement: so many connections, so much of something.
type Point struct {
	Conns float64 `json:"conns"`
	Value float64 `json:"value"`
}

// A Fit is the straight line nearest to the points: least squares.
type Fit struct {
	Slope     float64 `json:"slope"`     // for each connection
	Intercept float64 `json:"intercept"` // without any
	// R2 is the part of the points' variance that the line explains: 1 when all
	// lie on it. 0 where there is no variance to explain.
	R2     float64 `json:"r2"`
	Points int     `json:"points"`
}

// At is what the line says for so many connections.
func (f Fit) At(conns float64) float64 { return f.Intercept + f.Slope*conns }

// FitLine is the line through the points. There is none through points that all
// have one number of connections.
func FitLine(points []Point) (Fit, bool) {
	n := float64(len(points))
	var x, y float64 // the means
	for _, p := range points {
		x += p.Conns / n
		y += p.Value / n
	}
	var xx, xy, yy float64
	for _, p := range points {
		xx += (p.Conns - x) * (p.Conns - x)
		xy += (p.Conns - x) * (p.Value - y)
		yy += (p.Value - y) * (p.Value - y)
	}
	if xx == 0 || math.IsNaN(xx) {
		return Fit{}, false
	}
	f := Fit{Slope: xy / xx, Intercept: y - xy/xx*x, Points: len(points)}
	if yy > 0 {
		f.R2 = xy * xy / (xx * yy)
	}
	return f, true
}
