//go:build linux

package demo

import (
	"testing"

	"lesson/internal/proof"
)

// An idle connection has no buffers. One that is not read fills them, and a byte in
// them costs more than a byte of memory.
func TestMemory(t *testing.T) {
	t.Parallel()
	r, err := runMemory(t.Context(), Options{})
	proof.Must(t, err)
	checkResult(t, "memory", r)
	all := r.Data.([]MemorySeen)
	idle, one, full, again := all[0], all[1], all[2], all[3]
	if idle.Receiving != 0 || idle.Sending != 0 {
		t.Errorf("idle, it keeps %+v", idle)
	}
	if one.Receiving < 100 || one.Receiving > 10_000 {
		t.Errorf("one byte keeps %d bytes", one.Receiving)
	}
	if full.Receiving < 50_000 || full.Sending < 50_000 {
		t.Errorf("%d bytes unread keep %+v", full.Sent, full)
	}
	if again.Receiving != 0 || again.Sending != 0 {
		t.Errorf("when all is read, it keeps %+v", again)
	}
}
