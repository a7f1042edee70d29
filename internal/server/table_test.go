//go:build linux

package server

import "testing"

func TestTable(t *testing.T) {
	var table Table[int]
	fds := []int{3, 0, 255, 256, 257, 511, 512, 5000, 1000, 1 << 20, 1}
	places := make(map[*int]int)
	for i, fd := range fds {
		place := table.At(fd)
		if *place != 0 {
			t.Errorf("descriptor %d, never used, has %d", fd, *place)
		}
		if other, taken := places[place]; taken {
			t.Errorf("descriptors %d and %d have the same place", fd, other)
		}
		places[place] = fd
		*place = i + 1
	}
	// However the table has grown since, nothing has moved.
	for place, fd := range places {
		if table.At(fd) != place {
			t.Errorf("descriptor %d has moved", fd)
		}
	}
	for i, fd := range fds {
		if got := *table.At(fd); got != i+1 {
			t.Errorf("descriptor %d has %d, want %d", fd, got, i+1)
		}
	}
}

// The numbers of descriptors are dense, and the memory follows them: a high
// one costs one chunk, and not all those below it.
func TestTableMemory(t *testing.T) {
	var table Table[[1 << 10]byte]
	table.At(100 * chunk)
	used := 0
	for _, c := range table.chunks {
		if c != nil {
			used++
		}
	}
	if used != 1 {
		t.Errorf("one descriptor uses %d chunks", used)
	}
	if allocs := testing.AllocsPerRun(100, func() { table.At(100*chunk + 1) }); allocs != 0 {
		t.Errorf("%v allocations for a place that is there", allocs)
	}
}
