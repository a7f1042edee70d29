//go:build linux

package program

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"lesson/internal/proof"
)

// The calls of a program in C come with their lines, too, if it is compiled with -g: also
// where the compiler has put one function into another.
func TestLinesOfC(t *testing.T) {
	t.Parallel()
	cc, err := exec.LookPath("cc")
	if err != nil {
		t.Skip(err)
	}
	source, err := filepath.Abs("testdata/server.c")
	proof.Must(t, err)
	text, err := os.ReadFile(source)
	proof.Must(t, err)
	for _, optimized := range []string{"-O0", "-O2"} {
		t.Run(optimized, func(t *testing.T) {
			t.Parallel()
			binary := filepath.Join(t.TempDir(), "server")
			compile := exec.Command(cc, "-g", optimized, "-o", binary, "testdata/server.c")
			if out, err := compile.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			if got := Sources(binary); !slices.Equal(got, []string{source}) {
				t.Errorf("sources %q, want %s", got, source)
			}
			s, l := watched(t, binary, "{addr}")
			c, peer := dial(t, s)
			l.await(t, "read is entered", entered("read", peer))
			if _, err := c.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			l.await(t, "read returns", returned("read", peer))
			l.await(t, "write returns", returned("write", peer))
			for _, call := range []string{"accept", "read", "write"} {
				before, _, _ := strings.Cut(string(text), call+"(")
				want := 1 + strings.Count(before, "\n")
				for _, e := range l.all() {
					if e.Name == call && (e.File != "server.c" || e.Line != want) {
						t.Errorf("%s is on %s:%d, not on line %d", call, e.File, e.Line, want)
					}
				}
			}
		})
	}
}
