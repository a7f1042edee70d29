//go:build linux

package child

import (
	"fmt"
	"strings"

	"lesson/internal/report"
)

// Named returns the program that a text 'NAME=COMMAND {addr}' describes, as a flag --also
// takes it. The command is run by sh(1).
func Named(text string) (Program, error) {
	name, command, found := strings.Cut(text, "=")
	name, command = strings.TrimSpace(name), strings.TrimSpace(command)
	const example = `, as in 'mine=python3 server.py {port}'`
	if !found || name == "" || command == "" {
		return Program{}, fmt.Errorf("%q is not NAME=COMMAND%s", text, example)
	}
	p := Program{Name: report.Printable(name), Command: []string{"sh", "-c", command}}
	if p.ChoosesPort() {
		return Program{}, fmt.Errorf("%q does not get an address to listen on: write {addr} or"+
			" {port} in its command%s", name, example)
	}
	return p, nil
}
