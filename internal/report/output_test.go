package report

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestOutputRemembersItsFirstError(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip(err)
	}
	out := NewOutput(full)
	if out.Err() != nil {
		t.Errorf("before anything was written: %v", out.Err())
	}
	for range 2 {
		if _, err := io.WriteString(out, "x"); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("error %v", err)
		}
	}
	full.Close()
	if _, err := io.WriteString(out, "x"); !errors.Is(err, os.ErrClosed) {
		t.Errorf("error %v", err)
	}
	if !errors.Is(out.Err(), syscall.ENOSPC) {
		t.Errorf("it remembers %v, want the first error", out.Err())
	}
}

func TestJSONKeepsCharacters(t *testing.T) {
	var out strings.Builder
	if err := JSON(&out, map[string]string{"a": "<&>"}); err != nil || out.String() != "{\n  \"a\": \"<&>\"\n}\n" {
		t.Errorf("%v %q", err, out.String())
	}
}

func write(text string) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := io.WriteString(w, text)
		return err
	}
}

func TestFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "file")
	content := func() string {
		text, err := os.ReadFile(name)
		if errors.Is(err, os.ErrNotExist) {
			return "(none)"
		}
		return string(text)
	}
	for _, step := range []struct {
		what   string
		write  []string
		opened string // what is in it before anything is written
		closed string
	}{
		{"never written", nil, "", "(none)"},
		{"written", []string{"longer"}, "", "longer"},
		{"never written, and there before", nil, "longer", "longer"},
		{"written again and again", []string{"new", "x"}, "longer", "x"},
	} {
		f, err := Create(name)
		if err != nil {
			t.Fatal(err)
		}
		if got := content(); got != step.opened {
			t.Errorf("%s: opened, it has %q, want %q", step.what, got, step.opened)
		}
		for _, text := range step.write {
			if err := f.Write(write(text)); err != nil {
				t.Errorf("%s: %v", step.what, err)
			}
		}
		if err := f.Close(); err != nil {
			t.Errorf("%s: %v", step.what, err)
		}
		if got := content(); got != step.closed {
			t.Errorf("%s: in the end it has %q, want %q", step.what, got, step.closed)
		}
	}
}

func TestFileThatIsNotWholeIsRemoved(t *testing.T) {
	name, failed := filepath.Join(t.TempDir(), "file"), errors.New("failed")
	f, err := Create(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Write(func(io.Writer) error { return failed }); err != failed {
		t.Errorf("error %v", err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(name); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file: %v", err)
	}
}

func TestFileWithoutAName(t *testing.T) {
	f, err := Create("")
	if err = errors.Join(err, f.Write(write("x")), f.Close()); err != nil {
		t.Error(err)
	}
}

func TestFileThatCannotBeWritten(t *testing.T) {
	dir := t.TempDir()
	for name, want := range map[string]string{
		dir + "/no/such": "; make its folder first: mkdir -p " + dir + "/no",
		dir:              "; name a file in that folder",
	} {
		if _, err := Create(name); err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
	full, err := Create("/dev/full")
	if err != nil {
		t.Skip(err)
	}
	if err := full.Write(write("x")); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("error %v", err)
	}
	if err := full.Close(); err != nil {
		t.Error(err)
	}
}
