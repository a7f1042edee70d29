package report

import (
	"fmt"
	"strings"
)

// A palette is the colours of one scheme. Ink, quiet and every colour of the
// data can be read on paper, and paper on every colour of the data: 4.5 to 1 at
// the least (WCAG 2.2, 1.4.3).
type palette struct {
	paper, ink, quiet, grid string
	data                    [colours]string
}

// colours is how many the data has. They differ in lightness as well as in hue
// as far as the contrast allows.
const colours = 8

var light = palette{
	paper: "#ffffff", ink: "#1f2328", quiet: "#59636e", grid: "#dfe3e8",
	data: [colours]string{"#0b5cad", "#a84800", "#1a6e3a", "#7a43b6",
		"#b3263a", "#0b6c74", "#7d5a00", "#4d5560"},
}

var dark = palette{
	paper: "#0d1117", ink: "#e6edf3", quiet: "#9aa4af", grid: "#262c35",
	data: [colours]string{"#6cb2f7", "#f0a35c", "#6fcf87", "#c4a1f5",
		"#f58a86", "#57c8cf", "#d6bb52", "#aab4c0"},
}

// rules returns the part of the style sheet that names colours. There are no custom
// properties in it, which viewers other than browsers do not know.
func (p palette) rules() string {
	var out strings.Builder
	fmt.Fprintf(&out, ".chart text{fill:%s} .chart .q,.chart .s{fill:%s} .chart .over{fill:%s}\n",
		p.ink, p.quiet, p.ink)
	fmt.Fprintf(&out, ".chart .paper,.chart text.on{fill:%s} .chart .halo{stroke:%s}\n",
		p.paper, p.paper)
	fmt.Fprintf(&out, ".chart .grid{stroke:%s} .chart .axis{stroke:%s}\n", p.grid, p.quiet)
	fmt.Fprintf(&out, ".chart .spread{stroke:%s}\n", p.ink)
	for i, c := range p.data {
		fmt.Fprintf(&out, ".chart .f%d{fill:%s} .chart .l%d{stroke:%s}\n", i, c, i, c)
	}
	return out.String()
}

// onScreen returns a style sheet for readers who have asked for dark; paper is light.
func onScreen(rules string) string {
	return "@media screen and (prefers-color-scheme: dark){\n" + rules + "}\n"
}

// fonts is what the reader's system has; nothing is loaded.
const fonts = `system-ui,-apple-system,"Segoe UI",Roboto,Helvetica,Arial,sans-serif`

var style = `.chart text{font:13px ` + fonts + `}
.chart .h{font-size:16px;font-weight:600} .chart .b{font-weight:600}
.chart .q{font-size:12px} .chart .s{font-size:11px;font-variant-numeric:tabular-nums}
.chart .middle{text-anchor:middle} .chart .end{text-anchor:end}
.chart .on,.chart .over{pointer-events:none} .chart .grid,.chart .axis{shape-rendering:crispEdges}
.chart path.halo{stroke-width:4} .chart .spread{stroke-width:1.5} .chart path.mark{stroke-width:1}
` + light.rules() + onScreen(dark.rules())
