package report

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
)

// An Output is a file, such as the standard output, that remembers the first error of
// writing to it. So whatever prints need not look at each line's error, and the program
// reports it in one place. It is safe for concurrent use.
type Output struct {
	file *os.File
	err  atomic.Pointer[error]
}

// NewOutput returns an Output that writes to the file.
func NewOutput(file *os.File) *Output { return &Output{file: file} }

// Write writes p to the file.
func (o *Output) Write(p []byte) (int, error) {
	n, err := o.file.Write(p)
	if err != nil {
		o.err.CompareAndSwap(nil, &err)
	}
	return n, err
}

// Fd returns the file's descriptor: see Width.
func (o *Output) Fd() uintptr { return o.file.Fd() }

// Err returns the first error of Write.
func (o *Output) Err() error {
	if err := o.err.Load(); err != nil {
		return *err
	}
	return nil
}

// JSON writes v for machines: indented, and with < and > as they are.
func JSON(w io.Writer, v any) error {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(v)
}

// A File is opened before a command begins, so that a path that cannot be written fails
// at once, and written when there is something to write. A File without a name is none:
// its methods do nothing.
type File struct {
	file *os.File
	made bool // by Create, and not written yet as a whole
}

// Create opens the file for writing. What is in it stays until Write. The error ends
// with what to try.
func Create(name string) (*File, error) {
	if name == "" {
		return &File{}, nil
	}
	_, err := os.Stat(name)
	made := errors.Is(err, fs.ErrNotExist)
	file, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE, 0o666)
	if err == nil {
		return &File{file, made}, nil
	}
	return nil, WithHint(name, err)
}

// WithHint adds what to try to the error of opening the file for writing.
func WithHint(name string, err error) error {
	hint := "name another file"
	switch {
	case errors.Is(err, fs.ErrNotExist):
		hint = "make its folder first: " + CommandLine("mkdir", "-p", filepath.Dir(name))
	case errors.Is(err, syscall.EISDIR):
		hint = "name a file in that folder"
	}
	return fmt.Errorf("%w; %s", err, hint)
}

// Write writes the file with what write writes.
func (f *File) Write(write func(io.Writer) error) error {
	if f.file == nil {
		return nil
	}
	info, err := f.file.Stat()
	if err != nil {
		return err
	}
	if info.Mode().IsRegular() { // a device or a pipe has nothing to replace
		if _, err := f.file.Seek(0, io.SeekStart); err != nil {
			return err
		}
		if err := f.file.Truncate(0); err != nil {
			return err
		}
	}
	err = write(f.file)
	f.made = f.made && err != nil
	return err
}

// Close closes the file. It removes one that Create has made and that is not whole.
func (f *File) Close() error {
	if f.file == nil {
		return nil
	}
	err := f.file.Close()
	if f.made {
		err = errors.Join(err, os.Remove(f.file.Name()))
	}
	return err
}
