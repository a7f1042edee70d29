//go:build linux

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"lesson/internal/report"
	"lesson/internal/tool/bench"
	"lesson/internal/tool/crowd"
)

// results is the folder with what scripts/measure.sh has measured.
const results = "docs/results"

// A measured is what a result can be asked for: Markdown and charts, by name.
type measured interface {
	Figures() (texts map[string]string, charts map[string]report.Chart)
}

// measurements are the results, and how each is read.
var measurements = []struct {
	name string
	read func(text []byte) (measured, error)
}{
	{"bench", ofBench},
	{"stall", ofBench},
	{"peers", ofBench},
	{"crowd", ofCrowd},
}

var errEmpty = errors.New("nothing was measured")

func ofBench(text []byte) (measured, error) {
	var r bench.Report
	err := json.Unmarshal(text, &r)
	if err == nil && (len(r.Servers) == 0 || len(r.Servers[0].Sizes) == 0) {
		err = errEmpty
	}
	return &r, err
}

func ofCrowd(text []byte) (measured, error) {
	var r crowd.Report
	err := json.Unmarshal(text, &r)
	if err == nil && len(r.Servers) == 0 {
		err = errEmpty
	}
	return &r, err
}

// figures returns what pages can quote of the results, as Markdown by RESULT:FIGURE, and
// the pictures drawn of them, by path from root. A result without a file has none.
func figures(root string) (texts map[string]string, pictures map[string][]byte, err error) {
	texts, pictures = map[string]string{}, map[string][]byte{}
	for _, m := range measurements {
		file := filepath.Join(results, m.name+".json")
		text, err := os.ReadFile(filepath.Join(root, file))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		result, err := m.read(text)
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", file, err)
		}
		all, charts := result.Figures()
		for name, text := range all {
			texts[m.name+":"+name] = text
		}
		for name, chart := range charts {
			pictures[filepath.Join(results, m.name+"-"+name+".svg")] = chart.SVG()
		}
	}
	return texts, pictures, nil
}
