//go:build linux

package exercise

import "testing"

func TestPage(t *testing.T) {
	g := loadFixture(t, fixture())
	wants(t, "the page", g.Page(cases()),
		"# Exercises\n",
		"\n\n**1. [The last chunk](01-last-chunk/)** · loop · [chapter 2](../02-a-loop.md)\n\n> \"Big requests",
		"\n\n**6. [One read per edge](06-one-read-per-edge/)** · edge-triggered · [chapter 5](../05-edge-triggered.md)\n\n> ",
		"### requests\n\n<!-- figures cases:requests -->\n\n| | [1](01-last-chunk/) | [6](06-one-read-per-edge/) |\n|---|:-:|:-:|\n",
		"| large | ● | ● |\n| split-terminator | ○ | ○ |\n",
		"| | [16](16-unbounded-buffer/) |\n|---|:-:|\n| endless | ● |\n\n<!-- /figures -->\n",
	)
}
