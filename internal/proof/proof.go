// Package proof is for tests whose servers are the test program itself, started
// again. Under go test -race these servers must do without the race detector: it
// keeps a shadow of all memory, and a measurement would be one of that.
package proof

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Program is the test program of the package whose tests run, without the race
// detector: itself, where it has none, and else built anew. remove removes what was
// built.
func Program() (program string, remove func(), err error) {
	if !Detector {
		return os.Args[0], func() {}, nil
	}
	dir, err := os.MkdirTemp("", "unraced-")
	if err != nil {
		return "", nil, err
	}
	remove = func() { _ = os.RemoveAll(dir) } // what is left is in the folder for that
	program = filepath.Join(dir, "test")
	out, err := exec.Command("go", "test", "-c", "-o", program, ".").CombinedOutput()
	if err != nil {
		remove()
		return "", nil, fmt.Errorf("go test -c: %w\n%s", err, out)
	}
	return program, remove, nil
}
