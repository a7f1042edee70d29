//go:build linux

package launch

import (
	"fmt"
	"strings"
)

// Named is the program of a text NAME=COMMAND, as a flag --also takes it. The words of
// the command are separated by blanks, and nothing is special in them.
func Named(text string) (Program, error) {
	name, command, found := strings.Cut(text, "=")
	words := strings.Fields(command)
	if name = strings.TrimSpace(name); !found || name == "" || len(words) == 0 {
		return Program{}, fmt.Errorf("not a name and a command: %q; write it as"+
			" 'NAME=COMMAND {addr}', for example 'mine=./server {addr}'", text)
	}
	return Program{Name: name, Command: words}, nil
}
