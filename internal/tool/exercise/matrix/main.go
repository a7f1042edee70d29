//go:build linux

// Command matrix writes the page that lists the exercises: `go generate ./docs`.
package main

import (
	"fmt"
	"os"

	"lesson/internal/tool/check"
	"lesson/internal/tool/exercise"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: matrix FILE")
		os.Exit(2)
	}
	if err := write(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "matrix:", err)
		os.Exit(1)
	}
}

func write(file string) error {
	gallery, err := exercise.Carried()
	if err != nil {
		return err
	}
	return os.WriteFile(file, []byte(gallery.Page(check.Cases())), 0o644)
}
