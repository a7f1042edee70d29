//go:build linux

package site

import (
	"testing"

	"lesson/internal/tool/explore"
)

// Every scenario of the page can be performed.
func TestScenarios(t *testing.T) {
	ends := func(explore.Kernel, func(func())) {}
	for _, s := range Scenarios {
		if _, err := explore.Perform(ends, s.Acts); err != nil {
			t.Errorf("%s: %v", s.Title, err)
		}
	}
}
