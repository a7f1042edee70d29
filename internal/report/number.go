package report

import (
	"math"
	"strconv"
)

// significant writes v with so many significant digits and without an exponent
// where that is readable.
func significant(v float64, digits int) string {
	if !usable(v) {
		return "–"
	}
	short := strconv.FormatFloat(v, 'g', digits, 64)
	rounded, err := strconv.ParseFloat(short, 64)
	if a := math.Abs(rounded); err != nil || a >= 1e15 || a != 0 && a < 1e-6 {
		return short
	}
	return strconv.FormatFloat(rounded+0, 'f', -1, 64) // -0 + 0 is 0
}

// exact returns a number for a table of data.
func exact(v float64) string { return significant(v, 6) }

type unit struct {
	size float64
	name string
}

// scaled writes v in the largest of the units, which rise, that is not above it.
func scaled(v float64, units []unit) string {
	if !usable(v) {
		return significant(v, 3)
	}
	chosen := units[0]
	for _, u := range units {
		if math.Abs(v) >= u.size*0.9995 { // so that 999,999 is 1M and not 1000k
			chosen = u
		}
	}
	if v == 0 {
		chosen = units[len(units)-1]
		for _, u := range units {
			if u.size == 1 {
				chosen = u
			}
		}
	}
	return significant(v/chosen.size, 3) + chosen.name
}

// Short writes v in three digits: 0.25, 120, 1.5k, 20M.
func Short(v float64) string {
	if math.Abs(v) >= 1e15 {
		return significant(v, 3)
	}
	return scaled(v, []unit{{1, ""}, {1e3, "k"}, {1e6, "M"}, {1e9, "G"}, {1e12, "T"}})
}

// orShort returns the format of a chart, which may leave it open.
func orShort(format func(float64) string) func(float64) string {
	if format == nil {
		return Short
	}
	return format
}

// Seconds writes a time given in seconds: 20 µs, 1.5 ms, 2 s.
func Seconds(v float64) string {
	return scaled(v, []unit{{1e-9, " ns"}, {1e-6, " µs"}, {1e-3, " ms"}, {1, " s"}})
}

// Bytes writes a size given in bytes: 512 B, 4 kB, 1.5 MB. A kB is 1000 bytes, so
// that round numbers of an axis stay round.
func Bytes(v float64) string {
	return scaled(v, []unit{{1, " B"}, {1e3, " kB"}, {1e6, " MB"}, {1e9, " GB"}})
}

// Thousands returns a whole number with its thousands apart: 28,232.
func Thousands[N int | int64 | float64](n N) string {
	if !usable(float64(n)) {
		return "–"
	}
	digits := strconv.FormatFloat(math.Round(float64(n))+0, 'f', 0, 64) // -0 + 0 is 0
	for i := len(digits) - 3; i > 0 && digits[i-1] != '-'; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

// Percent returns a part of a whole in hundredths, with so many decimals: 12.5 %.
func Percent(part float64, decimals int) string {
	return strconv.FormatFloat(100*part, 'f', decimals, 64) + " %"
}
