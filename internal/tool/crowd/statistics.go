//go:build linux

package crowd

import (
	"slices"
	"time"
)

// over is a number of all samples.
func over[T any](samples []T, number func(T) float64) Range {
	var numbers []float64
	for _, one := range samples {
		numbers = append(numbers, number(one))
	}
	return ranged(numbers)
}

// middle is its median.
func middle[T any](samples []T, number func(T) float64) float64 {
	return over(samples, number).Median
}

func duration(samples []sample, number func(sample) float64) time.Duration {
	return time.Duration(middle(samples, number))
}

// ranged is median, least and most; of two in the middle, their mean.
func ranged(numbers []float64) Range {
	if len(numbers) == 0 {
		return Range{}
	}
	sorted := slices.Sorted(slices.Values(numbers))
	n := len(sorted)
	return Range{
		Median: (sorted[(n-1)/2] + sorted[n/2]) / 2,
		Min:    sorted[0],
		Max:    sorted[n-1],
	}
}
