//go:build linux

package demo

import (
	"slices"
	"testing"
)

// EPOLLOUT reports the end of an attempt, whatever it is; SO_ERROR tells which, once.
func TestConnect(t *testing.T) {
	t.Parallel()
	r, err := connect.Run(t.Context(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	checkResult(t, "connect", r)
	want := []attempt{
		{"a server", "EINPROGRESS", "OUT", "0", "0"},
		{"no server", "EINPROGRESS", "OUT|HUP|ERR", "ECONNREFUSED", "0"},
		{"a server with a full queue", "EINPROGRESS", "", "0", "0"},
	}
	if got := r.Data.([]attempt); !slices.Equal(got, want) {
		t.Errorf("%+v\nwant\n%+v", got, want)
	}
}
