//go:build linux

// Package figures puts measured figures into the pages, so that no page quotes a
// figure that nobody has measured. It reads the results that scripts/measure.sh has
// written, fills in what stands between two markers,
//
//	<!-- figures bench:cost -->
//	<!-- /figures -->
//
// and draws the charts: `go generate ./docs`.
package figures

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"lesson/internal/report"
	"lesson/internal/tool/bench"
	"lesson/internal/tool/crowd"
)

// A result is a file of results, NAME.json, and how figures are made of it.
type result struct {
	name    string
	figures func(text []byte) (texts map[string]string, charts map[string]report.Chart, err error)
}

var results = []result{
	{"bench", ofBench},
	{"stall", ofBench},
	{"peers", ofBench},
	{"crowd", ofCrowd},
}

func ofBench(text []byte) (map[string]string, map[string]report.Chart, error) {
	var report bench.Report
	if err := json.Unmarshal(text, &report); err != nil {
		return nil, nil, err
	}
	if len(report.Servers) == 0 || len(report.Servers[0].Sizes) == 0 {
		return nil, nil, errors.New("nothing was measured")
	}
	texts, charts := report.Figures()
	return texts, charts, nil
}

func ofCrowd(text []byte) (map[string]string, map[string]report.Chart, error) {
	var report crowd.Report
	if err := json.Unmarshal(text, &report); err != nil {
		return nil, nil, err
	}
	if len(report.Servers) == 0 {
		return nil, nil, errors.New("nothing was measured")
	}
	texts, charts := report.Figures()
	return texts, charts, nil
}

// Figures is all that pages can quote.
type Figures struct {
	Texts    map[string]string // Markdown, by RESULT:FIGURE
	Pictures map[string][]byte // SVG, by file: RESULT-FIGURE.svg
}

// Load makes the figures of the results in a folder. A result that is not there
// has none.
func Load(folder string) (Figures, error) {
	all := Figures{Texts: map[string]string{}, Pictures: map[string][]byte{}}
	for _, result := range results {
		file := filepath.Join(folder, result.name+".json")
		text, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return all, err
		}
		texts, charts, err := result.figures(text)
		if err != nil {
			return all, fmt.Errorf("%s: %w", file, err)
		}
		for name, text := range texts {
			all.Texts[result.name+":"+name] = text
		}
		for name, chart := range charts {
			all.Pictures[result.name+"-"+name+".svg"] = chart.SVG()
		}
	}
	return all, nil
}

var (
	opening = regexp.MustCompile(`^<!-- figures (\S+) -->$`)
	closing = "<!-- /figures -->"
)

// Fill puts the figures into a page. Markers inside of a fenced block are text.
func (f Figures) Fill(page string) (string, error) {
	var out strings.Builder
	open, fenced := "", false
	number := 0
	for line := range strings.Lines(page) {
		number++
		text := strings.TrimRight(line, "\r\n")
		if open == "" && strings.HasPrefix(text, "```") {
			fenced = !fenced
		}
		m := opening.FindStringSubmatch(text)
		switch {
		case fenced:
			out.WriteString(line)
		case m != nil && open != "":
			return "", fmt.Errorf("line %d: %s is not closed", number, open)
		case m != nil:
			open = m[1]
			figure, known := f.Texts[open]
			if !known {
				return "", fmt.Errorf("line %d: no figures %q; there are %s", number, open,
					strings.Join(slices.Sorted(maps.Keys(f.Texts)), ", "))
			}
			out.WriteString(line + "\n" + strings.TrimRight(figure, "\n") + "\n\n")
		case text == closing && open == "":
			return "", fmt.Errorf("line %d: nothing to close", number)
		case text == closing:
			open = ""
			out.WriteString(line)
		case open == "":
			out.WriteString(line)
		}
	}
	if open != "" {
		return "", fmt.Errorf("%s is not closed", open)
	}
	return out.String(), nil
}
