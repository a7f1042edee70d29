//go:build linux

package demo

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A uring is the least of an io_uring that an experiment needs: io_uring(7),
// io_uring_setup(2), io_uring_enter(2), linux/io_uring.h. Two rings in memory that
// the kernel shares with us: in one we write what is to be done, in the other it
// writes what has been done.
type uring struct {
	fd      int
	rings   []byte // both, in one mapping
	entries []sqe
	mapped  []byte // what entries lies in
	offsets uringParams

	pinned   runtime.Pinner // what the kernel will write to
	calls    int            // of io_uring_enter
	pending  uint32         // requests in the ring that the kernel has not seen yet
	underWay int            // requests without a completion
}

// uringParams is struct io_uring_params. The offsets are into rings.
type uringParams struct {
	sqEntries, cqEntries, flags, threadCPU, threadIdle, features, wqFD uint32
	_                                                                  [3]uint32

	sq struct {
		head, tail, mask, entries, flags, dropped, array, _ uint32
		_                                                   uint64
	}
	cq struct {
		head, tail, mask, entries, overflow, cqes, flags, _ uint32
		_                                                   uint64
	}
}

// sqe is struct io_uring_sqe: a request.
type sqe struct {
	opcode, flags uint8
	priority      uint16
	fd            int32
	offset        uint64
	addr          uint64
	length        uint32
	callFlags     uint32
	userData      uint64
	_             [3]uint64
}

// A completion is struct io_uring_cqe: what has become of a request.
type completion struct {
	userData uint64
	result   int32 // as the system call would have returned, -errno for an error
	flags    uint32
}

// Of linux/io_uring.h; x/sys/unix does not have them.
const (
	opRead         = 22      // IORING_OP_READ
	getEvents      = 1       // IORING_ENTER_GETEVENTS
	singleMmap     = 1       // IORING_FEAT_SINGLE_MMAP: Linux 5.4
	offsetOfSQEs   = 1 << 28 // IORING_OFF_SQES
	currentOffset  = ^uint64(0)
	ringsAtOffset0 = 0
)

// newUring is an io_uring for that many requests at a time, a power of two. EPERM
// and ENOSYS say that there is none for us: kernel.io_uring_disabled, or a filter
// of system calls around a container, or an old kernel.
func newUring(requests uint32) (*uring, error) {
	u := &uring{}
	fd, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, uintptr(requests),
		uintptr(unsafe.Pointer(&u.offsets)), 0)
	if errno != 0 {
		return nil, fmt.Errorf("io_uring_setup: %w", errno)
	}
	u.fd = int(fd)
	if err := u.mmap(); err != nil {
		closeAll(u.fd)
		return nil, err
	}
	return u, nil
}

func (u *uring) mmap() (err error) {
	if u.offsets.features&singleMmap == 0 {
		return fmt.Errorf("io_uring: %w: too old a kernel", unix.ENOSYS)
	}
	size := max(u.offsets.sq.array+u.offsets.sqEntries*4,
		u.offsets.cq.cqes+u.offsets.cqEntries*uint32(unsafe.Sizeof(completion{})))
	u.rings, err = u.share(ringsAtOffset0, int(size))
	if err != nil {
		return err
	}
	u.mapped, err = u.share(offsetOfSQEs, int(u.offsets.sqEntries)*int(unsafe.Sizeof(sqe{})))
	if err != nil {
		_ = unix.Munmap(u.rings) // it is unused
		return err
	}
	u.entries = unsafe.Slice((*sqe)(unsafe.Pointer(&u.mapped[0])), u.offsets.sqEntries)
	return nil
}

func (u *uring) share(offset int64, size int) ([]byte, error) {
	memory, err := unix.Mmap(u.fd, offset, size, unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		return nil, fmt.Errorf("mmap: %w", err)
	}
	return memory, nil
}

// close waits for nothing. No request may be under way: the kernel would write to
// memory that has another use by then.
func (u *uring) close() {
	closeAll(u.fd)
	_ = unix.Munmap(u.rings) // as with close: it is gone whatever comes back
	_ = unix.Munmap(u.mapped)
	u.pinned.Unpin()
}

// word is a number in the shared memory.
func (u *uring) word(offset uint32) *uint32 {
	return (*uint32)(unsafe.Pointer(&u.rings[offset]))
}

// read submits a read into p, which belongs to the kernel until the completion.
// It makes no system call.
func (u *uring) read(fd int, p []byte, offset, userData uint64) {
	u.pinned.Pin(&p[0])
	tail := *u.word(u.offsets.sq.tail) // only we write it
	slot := tail & *u.word(u.offsets.sq.mask)
	u.entries[slot] = sqe{
		opcode: opRead, fd: int32(fd), offset: offset,
		addr: uint64(uintptr(unsafe.Pointer(&p[0]))), length: uint32(len(p)), userData: userData,
	}
	*u.word(u.offsets.sq.array + 4*slot) = slot
	atomic.StoreUint32(u.word(u.offsets.sq.tail), tail+1) // from here on the kernel may use it
	u.pending++
	u.underWay++
}

// enter submits the pending requests, and waits until wait completions have come.
func (u *uring) enter(wait int) error {
	flags := uintptr(0)
	if wait > 0 {
		flags = getEvents
	}
	return retry(func() error {
		u.calls++
		n, _, errno := unix.Syscall6(unix.SYS_IO_URING_ENTER, uintptr(u.fd), uintptr(u.pending),
			uintptr(wait), flags, 0, 0)
		if errno != 0 {
			return errno
		}
		u.pending -= uint32(n)
		return nil
	})
}

// completions returns the completions that have arrived. It makes no system call.
func (u *uring) completions() []completion {
	var done []completion
	head := *u.word(u.offsets.cq.head) // only we write it
	for ; head != atomic.LoadUint32(u.word(u.offsets.cq.tail)); head++ {
		at := u.offsets.cq.cqes + (head&*u.word(u.offsets.cq.mask))*uint32(unsafe.Sizeof(completion{}))
		done = append(done, *(*completion)(unsafe.Pointer(&u.rings[at])))
	}
	atomic.StoreUint32(u.word(u.offsets.cq.head), head)
	u.underWay -= len(done)
	return done
}
