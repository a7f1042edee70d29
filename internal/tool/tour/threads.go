//go:build linux

package tour

import (
	"sync"

	"lesson/internal/lesson"
)

// mostThreads bounds the threads that the servers of all sessions use in this process. Go
// ends a program that needs more than 10,000, and a machine may have fewer.
const mostThreads = 4096

// threads is what is left of them.
type threads struct {
	mu   sync.Mutex
	left int
}

// threadsOf returns the most threads that a lesson uses at a time.
func threadsOf(l lesson.Lesson) int {
	if l.Model == lesson.Threaded {
		return maxOutsiders + maxClients + 1
	}
	return 1
}

// take takes n threads until giveBack is called.
func (t *threads) take(n int) (giveBack func(), err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.left < n {
		return nil, tooMany("the servers of all pages use %d threads already, and this one needs %d of them",
			mostThreads-t.left, n).hint("remove a server that has a thread for each client, or close a page")
	}
	t.left -= n
	return sync.OnceFunc(func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.left += n
	}), nil
}
