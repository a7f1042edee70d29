// Package proof provides what the tests of several packages share: a wait for a condition,
// the switch between the run of a minute and the exhaustive one, and a test program
// without the race detector.
package proof

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// Patience bounds how long Eventually waits. It is long: on a busy machine a process
// may not run for seconds, and a test that waits for a condition loses nothing by it.
// The race detector makes a program several times slower.
var Patience = 20 * time.Second

func init() {
	if Detector {
		Patience *= 3
	}
}

// Must fails the test at once if err is not nil.
func Must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Eventually waits until holds returns true, and fails the test at once if that
// takes longer than Patience. what completes the sentence "waited for …".
func Eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(Patience); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v for %s", Patience, what)
		}
	}
}

// WriteProgram writes a program, or a script, that can be run at once: no process that this one
// starts meanwhile has the file open for writing, which would be ETXTBSY in execve(2).
func WriteProgram(t testing.TB, file string, program []byte) {
	t.Helper()
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	Must(t, os.WriteFile(file, program, 0o700))
}

// exhaustive is the environment variable that asks for the exhaustive run.
const exhaustive = "EXHAUSTIVE"

// Exhaustive reports whether this is the exhaustive run: EXHAUSTIVE=1 go test ./...
func Exhaustive() bool { return os.Getenv(exhaustive) == "1" }

// OnlyExhaustive skips the test unless this is the exhaustive run. what says what the
// test runs and how long that takes; either way it is logged.
func OnlyExhaustive(t testing.TB, what string) {
	t.Helper()
	if !Exhaustive() {
		t.Skipf("only with %s=1: %s", exhaustive, what)
	}
	t.Logf("exhaustive: %s", what)
}

// Program returns the test program of the package whose tests run, built without the
// race detector: the running one, where it has none. A server that is this program,
// started again, can then be measured: the race detector keeps a shadow of all memory.
// remove removes what was built.
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
