package report

import (
	"math"
	"testing"
)

func TestNumbers(t *testing.T) {
	tests := []struct {
		format func(float64) string
		v      float64
		want   string
	}{
		{Short, 0, "0"}, {Short, 1, "1"}, {Short, 0.25, "0.25"}, {Short, 999, "999"},
		{Short, 999.7, "1k"}, {Short, 1500, "1.5k"}, {Short, 123456, "123k"}, {Short, 999999, "1M"},
		{Short, 2e7, "20M"}, {Short, -2500, "-2.5k"}, {Short, nan, "–"}, {Short, inf, "–"},
		{Short, 1e-9, "1e-09"}, {Short, math.Copysign(0, -1), "0"},
		{Seconds, 0, "0 s"}, {Seconds, 2e-5, "20 µs"}, {Seconds, 0.0015, "1.5 ms"},
		{Seconds, 2, "2 s"}, {Seconds, 90, "90 s"}, {Seconds, 0.99999, "1 s"},
		{Seconds, 3e-9, "3 ns"},
		{Bytes, 0, "0 B"}, {Bytes, 512, "512 B"}, {Bytes, 4000, "4 kB"}, {Bytes, 1.5e6, "1.5 MB"},
		{Thousands[float64], 0, "0"}, {Thousands[float64], 999.5, "1,000"}, {Thousands[float64], 28232, "28,232"},
		{Thousands[float64], 999, "999"}, {Thousands[float64], 1000, "1,000"}, {Thousands[float64], 1234567, "1,234,567"},
		{Thousands[float64], -1234567, "-1,234,567"}, {Thousands[float64], -100, "-100"},
		{Thousands[float64], -0.3, "0"}, {Thousands[float64], nan, "–"},
		{exact, 1234567, "1234570"}, {exact, 0.1 + 0.2, "0.3"}, {exact, 1e20, "1e+20"},
	}
	for i, test := range tests {
		if got := test.format(test.v); got != test.want {
			t.Errorf("%d: %v is %q, want %q", i, test.v, got, test.want)
		}
	}
}

func TestPercent(t *testing.T) {
	for _, test := range []struct {
		part     float64
		decimals int
		want     string
	}{{0, 0, "0 %"}, {0.125, 1, "12.5 %"}, {0.999, 0, "100 %"}, {2, 0, "200 %"}} {
		if got := Percent(test.part, test.decimals); got != test.want {
			t.Errorf("%v with %d decimals is %q, want %q", test.part, test.decimals, got, test.want)
		}
	}
}
