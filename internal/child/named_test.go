//go:build linux

package child

import (
	"slices"
	"strings"
	"testing"
)

func TestNamed(t *testing.T) {
	for _, test := range []struct{ text, name, command, err string }{
		{"mine=python3 server.py {port}", "mine", "python3 server.py {port}", ""},
		{" a b = ./x --addr={addr} -k=v ", "a b", "./x --addr={addr} -k=v", ""},
		{"\x1b[1mmine=./x {port}", `\x1b[1mmine`, "./x {port}", ""},
		{"python3 server.py {port}", "", "", "is not NAME=COMMAND"},
		{"=python3 {port}", "", "", "is not NAME=COMMAND"},
		{"mine=", "", "", "is not NAME=COMMAND"},
		{"", "", "", "is not NAME=COMMAND"},
		{"mine=python3 server.py", "", "", `"mine" does not get an address to listen on`},
	} {
		p, err := Named(test.text)
		switch {
		case test.err != "":
			if err == nil || !strings.Contains(err.Error(), test.err) {
				t.Errorf("%q: %v, want %q", test.text, err, test.err)
			}
		case err != nil || p.Name != test.name || !slices.Equal(p.Command, []string{"sh", "-c", test.command}):
			t.Errorf("%q: %+v, %v", test.text, p, err)
		}
	}
}
