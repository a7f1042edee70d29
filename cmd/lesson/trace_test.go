//go:build linux

package main

import (
	"os"
	"path/filepath"
	"testing"

	"lesson/internal/proof"
)

func TestFromHere(t *testing.T) {
	here, err := os.Getwd()
	proof.Must(t, err)
	tests := []struct{ file, want string }{
		{filepath.Join(here, "main.go"), "main.go"},
		{filepath.Join(here, "epoll", "small", "main.go"), "epoll/small/main.go"},
		{filepath.Join(filepath.Dir(here), "server", "main.go"), "server/main.go"},
		{"example.org/server/main.go", "server/main.go"}, // built with -trimpath
	}
	for _, test := range tests {
		if got := fromHere(test.file); got != test.want {
			t.Errorf("%s is shown as %s, want %s", test.file, got, test.want)
		}
	}
}
