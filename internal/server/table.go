//go:build linux

package server

// chunk is how many connections a Table adds at a time.
const chunk = 256

// A Table maps a descriptor to its connection. The kernel always hands out the
// lowest number that is free, so the numbers are dense and no hashing is needed.
// A Table grows in chunks, so that a connection never moves and pointers to it
// stay valid. The zero value is ready to use.
type Table[C any] struct{ chunks []*[chunk]C }

// At returns a pointer to the entry of descriptor fd, an entry that is the zero value
// before its first use.
func (t *Table[C]) At(fd int) *C {
	for fd/chunk >= len(t.chunks) {
		t.chunks = append(t.chunks, nil)
	}
	if t.chunks[fd/chunk] == nil {
		t.chunks[fd/chunk] = new([chunk]C)
	}
	return &t.chunks[fd/chunk][fd%chunk]
}
