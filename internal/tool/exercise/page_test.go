//go:build linux

package exercise

import "testing"

func TestPage(t *testing.T) {
	g := loadFixture(t, fixture())
	wants(t, "the page", g.Page(cases()),
		"# Exercises\n",
		"| 1 | [The last chunk](01-last-chunk/) | loop | [2](../02-a-loop.md) | \"Big requests",
		"| 6 | [One read per edge](06-one-read-per-edge/) | edge-triggered | [5](../05-edge-triggered.md) |",
		"### requests\n\n| case | [1](01-last-chunk/) | [6](06-one-read-per-edge/) |\n|---|:-:|:-:|\n",
		"| large | ● | ● |\n| split-terminator | ○ | ○ |\n",
		"### limits\n\n| case | [16](16-unbounded-buffer/) |\n|---|:-:|\n| endless | ● |\n",
	)
}
