//go:build linux

package child

import (
	"context"
	"fmt"
)

// A BuildError reports what go build prints about a program.
type BuildError struct{ Output string }

func (e *BuildError) Error() string { return "it does not build" }

// Build builds the Go program in dir, or the packages of the module there, as go build -o
// output does. The error is a *BuildError, or says why there is no go command to run, or
// is that of ctx: the compilers end with it.
func Build(ctx context.Context, dir, output string, packages ...string) error {
	// Whether dir lies in another repository, or beside a go.work that does not name
	// it, makes no difference.
	command := append([]string{"go", "build", "-buildvcs=false", "-o", output}, packages...)
	p, err := Start(command, dir, "GOWORK=off")
	if err != nil {
		return fmt.Errorf("cannot build: %w", err)
	}
	select {
	case <-p.Ended():
	case <-ctx.Done():
	}
	if err := p.Kill(); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if _, success := p.Status(); !success {
		return &BuildError{string(p.Output())}
	}
	return nil
}
