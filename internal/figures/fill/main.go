//go:build linux

// Command fill puts the measured figures into the pages and draws the charts:
// `go generate ./docs`.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"lesson/internal/figures"
)

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: fill RESULTS PAGE…")
		os.Exit(2)
	}
	if err := fill(os.Args[1], os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, "fill:", err)
		os.Exit(1)
	}
}

func fill(results string, pages []string) error {
	all, err := figures.Load(results)
	if err != nil {
		return err
	}
	for _, file := range pages {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		filled, err := all.Fill(string(text))
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		if filled == string(text) {
			continue
		}
		if err := os.WriteFile(file, []byte(filled), 0o644); err != nil {
			return err
		}
	}
	for name, picture := range all.Pictures {
		if err := os.WriteFile(filepath.Join(results, name), picture, 0o644); err != nil {
			return err
		}
	}
	return nil
}
