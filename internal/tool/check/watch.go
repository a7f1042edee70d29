//go:build linux

package check

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Files is what the command names that is a file or a folder: the program, and
// what it is written in.
func (target Target) Files() ([]string, error) {
	var files []string
	for i, arg := range target.Command {
		if i == 0 && !strings.Contains(arg, "/") {
			continue // found on the PATH: python3, go
		}
		path := arg
		if !filepath.IsAbs(path) {
			path = filepath.Join(target.Dir, path)
		}
		if _, err := os.Stat(path); err == nil {
			files = append(files, path)
		}
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("no part of %q is a file to watch; give the server as a command with a path,"+
			" as in: lesson check --watch -- python3 my_server.py {port}", target.name())
	}
	return files, nil
}

// Watch has the target judged, and again whenever one of its files changes, until ctx
// ends. judge returns what shows the result. A change ends a run that is under way: it
// judges what is no more, and its result is not shown. Then Watch waits.
func Watch(ctx context.Context, target Target, judge func(context.Context) (show func())) error {
	files, err := target.Files()
	if err != nil {
		return err
	}
	for before := LookAt(files...); ctx.Err() == nil; {
		run, end := context.WithCancel(ctx)
		next := make(chan Look, 1)
		go func() {
			defer close(next)
			defer end()
			if now, err := AwaitChange(ctx, before, files...); err == nil {
				next <- now // else ctx has ended
			}
		}()
		show := judge(run)
		if run.Err() == nil {
			show()
		}
		before = <-next
	}
	return nil
}
