//go:build linux

package launch

import (
	"slices"
	"strings"
	"testing"
)

func TestNamed(t *testing.T) {
	p, err := Named("mine=./server  --addr={addr}")
	if err != nil || p.Name != "mine" || !slices.Equal(p.Command, []string{"./server", "--addr={addr}"}) {
		t.Errorf("got %+v, %v", p, err)
	}
	for _, text := range []string{"", "mine", "mine=", "=./server {addr}", " = "} {
		if _, err := Named(text); err == nil || !strings.Contains(err.Error(), "NAME=COMMAND {addr}") {
			t.Errorf("%q: %v", text, err)
		}
	}
}
