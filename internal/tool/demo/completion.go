//go:build linux

package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

var completions = Demo{
	Name:    "completion",
	Title:   "what epoll cannot watch, and io_uring: completion instead of readiness",
	Chapter: "docs/12-after-epoll.md",
	Run:     runCompletion,
}

// CompletionData is what lesson demo completion has seen.
type CompletionData struct {
	Watched []Watched `json:"watched"`
	// Uring is "" when there is an io_uring for us, else the error.
	Uring string    `json:"uring"`
	Reads []Reading `json:"reads"`
}

// A Watched is a kind of file, and what epoll_ctl says of it.
type Watched struct {
	What string `json:"what"`
	Add  string `json:"add"`
	// Uring is what became of a read by io_uring: a number of bytes, or an error.
	Uring string `json:"uring"`
}

// A Reading is the same messages, read in one of the two ways.
type Reading struct {
	How      string   `json:"how"`
	Messages int      `json:"messages"`
	Calls    int      `json:"calls"` // system calls, of those who read
	Names    []string `json:"names"`
	// Buffers is how much memory had to be set aside before the first message
	// had come.
	Buffers int `json:"buffers"`
}

const (
	readers     = 16  // connections
	messageSize = 512 // bytes set aside for a message
	messages    = 10  // of each connection
)

func runCompletion(ctx context.Context, o Options) (*Result, error) {
	var data CompletionData
	o.say("one file of each kind")
	ring, err := newUring(readers)
	if err != nil {
		data.Uring = errorName(err)
	} else {
		defer ring.close()
	}
	if data.Watched, err = watchKinds(ring); err != nil {
		return nil, err
	}
	o.say("%d connections, %d messages each", readers, messages)
	byReadiness, err := readReady(ctx)
	if err == nil {
		data.Reads = append(data.Reads, byReadiness)
	}
	if err == nil && ring != nil {
		var byCompletion Reading
		byCompletion, err = readCompleted(ctx, ring)
		data.Reads = append(data.Reads, byCompletion)
	}
	if err != nil && ctx.Err() == nil {
		return nil, err
	}
	return data.result(), ctx.Err()
}

// watchKinds asks epoll to watch one file of each kind, all of which have five
// bytes to read where they can have any, and reads them by io_uring.
func watchKinds(ring *uring) (seen []Watched, err error) {
	kinds := []struct {
		what string
		open func() (fd int, done func(), err error)
	}{
		{"a regular file", openFile},
		{"a directory", func() (int, func(), error) { return openPath(os.TempDir()) }},
		{"/dev/null", func() (int, func(), error) { return openPath(os.DevNull) }},
		{"a pipe", openPipe},
		{"a connection", openConnection},
	}
	for _, kind := range kinds {
		fd, done, err := kind.open()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", kind.what, err)
		}
		w := Watched{What: kind.what, Uring: "–"}
		list, err := watchOne(fd, unix.EPOLLIN)
		if err == nil {
			w.Add = "0"
			closeAll(list)
		} else {
			w.Add = errorName(err)
		}
		err = nil
		if ring != nil {
			w.Uring, err = ring.readOnce(fd)
		}
		done()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", kind.what, err)
		}
		seen = append(seen, w)
	}
	return seen, nil
}

var fiveBytes = []byte("12345")

func openFile() (int, func(), error) {
	file, err := os.CreateTemp("", "lesson-demo")
	if err != nil {
		return -1, nil, err
	}
	_, err = file.Write(fiveBytes)
	fd, done, failed := openPath(file.Name())
	// Opened, it needs no name any more.
	if err := errors.Join(err, failed, file.Close(), os.Remove(file.Name())); err != nil {
		closeOnce(fd)
		return -1, nil, err
	}
	return fd, done, nil
}

func openPath(name string) (int, func(), error) {
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, nil, fmt.Errorf("open %s: %w", name, err)
	}
	return fd, func() { closeAll(fd) }, nil
}

func openPipe() (int, func(), error) {
	var ends [2]int
	if err := unix.Pipe2(ends[:], unix.O_CLOEXEC); err != nil {
		return -1, nil, fmt.Errorf("pipe2: %w", err)
	}
	done := func() { closeAll(ends[:]...) }
	if _, err := unix.Write(ends[1], fiveBytes); err != nil {
		done()
		return -1, nil, fmt.Errorf("write: %w", err)
	}
	return ends[0], done, nil
}

func openConnection() (int, func(), error) {
	p, err := newBlockingPair(context.Background())
	if err != nil {
		return -1, nil, err
	}
	if _, err := unix.Write(p.client, fiveBytes); err != nil {
		p.close()
		return -1, nil, fmt.Errorf("write: %w", err)
	}
	return p.server, p.close, nil
}

// newBlockingPair is a pair whose server's end blocks, too: whether io_uring waits
// for one that does not has changed from kernel to kernel.
func newBlockingPair(ctx context.Context) (*pair, error) {
	p, err := newPair(ctx, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.SetNonblock(p.server, false); err != nil {
		p.close()
		return nil, fmt.Errorf("fcntl: %w", err)
	}
	return p, nil
}

// readOnce reads once, at the file's own position, and waits for it.
func (u *uring) readOnce(fd int) (string, error) {
	u.read(fd, make([]byte, 16), currentOffset, 0)
	if err := u.enter(1); err != nil {
		return "", fmt.Errorf("io_uring_enter: %w", err)
	}
	done := u.completions()
	if len(done) != 1 {
		return "", fmt.Errorf("%d completions of one read", len(done))
	}
	if n := done[0].result; n < 0 {
		return errorName(unix.Errno(-n)), nil
	}
	return fmt.Sprint(done[0].result), nil
}

// A round of messages: one on each connection.
func sendRound(pairs []*pair) error {
	for _, p := range pairs {
		if _, err := unix.Write(p.client, fiveBytes); err != nil {
			return err
		}
	}
	return nil
}

func newPairs(ctx context.Context, make func(context.Context) (*pair, error)) ([]*pair, error) {
	var pairs []*pair
	for range readers {
		p, err := make(ctx)
		if err != nil {
			closePairs(pairs)
			return nil, err
		}
		pairs = append(pairs, p)
	}
	return pairs, nil
}

func closePairs(pairs []*pair) {
	for _, p := range pairs {
		p.close()
	}
}

// readReady reads all messages as an event loop does: wait until something is ready,
// then read.
func readReady(ctx context.Context) (Reading, error) {
	seen := Reading{How: "epoll: readiness", Buffers: messageSize,
		Names: []string{"epoll_wait", "read"}}
	pairs, err := newPairs(ctx, func(ctx context.Context) (*pair, error) { return newPair(ctx, 0) })
	if err != nil {
		return seen, err
	}
	defer closePairs(pairs)
	list, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return seen, fmt.Errorf("epoll_create1: %w", err)
	}
	defer closeAll(list)
	for _, p := range pairs {
		event := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(p.server)}
		if err := unix.EpollCtl(list, unix.EPOLL_CTL_ADD, p.server, &event); err != nil {
			return seen, fmt.Errorf("epoll_ctl: %w", err)
		}
	}
	buffer := make([]byte, messageSize) // one for all: what is ready is read at once
	events := make([]unix.EpollEvent, readers)
	for range messages {
		if err := sendRound(pairs); err != nil {
			return seen, err
		}
		for read := 0; read < readers; {
			var n int
			err := retry(func() (err error) {
				seen.Calls++
				n, err = unix.EpollWait(list, events, int(patience.Milliseconds()))
				return err
			})
			if err != nil || n == 0 {
				return seen, errors.Join(fmt.Errorf("epoll_wait: %d events", n), err)
			}
			for _, event := range events[:n] {
				seen.Calls++
				if n, err := unix.Read(int(event.Fd), buffer); n != len(fiveBytes) {
					return seen, fmt.Errorf("read: %s", outcome(n, err))
				}
				read++
			}
		}
		seen.Messages += readers
	}
	return seen, ctx.Err()
}

// readCompleted reads the same by io_uring. Each connection has a read under way
// before anything has come; it needs a buffer of its own for that.
func readCompleted(ctx context.Context, ring *uring) (seen Reading, err error) {
	seen = Reading{How: "io_uring: completion", Buffers: readers * messageSize,
		Names: []string{"io_uring_enter"}}
	pairs, err := newPairs(ctx, newBlockingPair)
	if err != nil {
		return seen, err
	}
	defer closePairs(pairs)
	defer func() { err = errors.Join(err, ring.finish(pairs)) }()
	buffers := make([][]byte, readers)
	ask := func(i int) { ring.read(pairs[i].server, buffers[i], currentOffset, uint64(i)) }
	for i := range buffers {
		buffers[i] = make([]byte, messageSize)
		ask(i)
	}
	before := ring.calls
	if err := ring.enter(0); err != nil { // the reads are under way, and no call waits
		return seen, fmt.Errorf("io_uring_enter: %w", err)
	}
	for range messages {
		if err := sendRound(pairs); err != nil {
			return seen, err
		}
		for read := 0; read < readers; {
			if err := ring.enter(readers - read); err != nil {
				return seen, fmt.Errorf("io_uring_enter: %w", err)
			}
			for _, c := range ring.completions() {
				if int(c.result) != len(fiveBytes) {
					return seen, fmt.Errorf("a read has completed with %d", c.result)
				}
				read++
				ask(int(c.userData))
			}
		}
		seen.Messages += readers
	}
	seen.Calls = ring.calls - before
	return seen, ctx.Err()
}

// finish ends the reads that are under way: the clients close, so they complete
// with 0. Until then the buffers belong to the kernel.
func (u *uring) finish(pairs []*pair) error {
	for _, p := range pairs {
		p.closeClient()
	}
	for u.underWay > 0 {
		if err := u.enter(u.underWay); err != nil {
			return fmt.Errorf("io_uring_enter: %w", err)
		}
		u.completions()
	}
	return nil
}

func (d CompletionData) result() *Result {
	kinds := Table{
		Title: "Can epoll watch it, and can io_uring read from it?",
		Head:  []string{"what", "epoll_ctl ADD", "read by io_uring"},
	}
	var refused []string
	for _, w := range d.Watched {
		kinds.Rows = append(kinds.Rows, []string{w.What, w.Add, w.Uring})
		if w.Add == "EPERM" {
			refused = append(refused, w.What)
		}
	}
	calls := Table{
		Title: fmt.Sprintf("%d messages on each of %d connections.", messages, readers),
		Head:  []string{"how they are read", "messages", "system calls", "bytes reserved"},
	}
	for _, r := range d.Reads {
		calls.Rows = append(calls.Rows, []string{r.How, fmt.Sprint(r.Messages),
			fmt.Sprintf("%d (%s)", r.Calls, strings.Join(r.Names, ", ")), fmt.Sprint(r.Buffers)})
	}
	r := &Result{Demo: "completion", Tables: []Table{kinds, calls}, Data: d}
	r.Sentences = append(r.Sentences,
		fmt.Sprintf("epoll refuses, with EPERM: %s.", enumerate(refused)))
	if d.Uring != "" {
		r.Sentences = append(r.Sentences, fmt.Sprintf("io_uring is not available here:"+
			" io_uring_setup fails with %s. Check kernel.io_uring_disabled, and whether a container's"+
			" seccomp filter forbids the call.", d.Uring))
	}
	if len(d.Reads) == 2 {
		e, u := d.Reads[0], d.Reads[1]
		r.Sentences = append(r.Sentences, fmt.Sprintf("A message costs %.2f system calls with epoll and"+
			" %.2f with io_uring. Before any data arrives, io_uring has reserved %d times the memory.", float64(e.Calls)/float64(e.Messages), float64(u.Calls)/float64(u.Messages),
			u.Buffers/e.Buffers))
	}
	return r
}
