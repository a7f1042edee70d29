//go:build linux

package demo

import (
	"context"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

var orphans = Demo{
	Name:    "orphans",
	Title:   "what happens to an accept queue when one of several listeners is closed",
	Chapter: "docs/11-many-cores-and-machines.md",
	Root:    "needed for the second half, which sets net.ipv4.tcp_migrate_req, in a network namespace of its own",
	Run:     runOrphans,
}

const orphanClients = 40

// An Orphaned is what became of clients that two listeners had in their accept
// queues when one of them was closed.
type Orphaned struct {
	Migrate string `json:"tcp_migrate_req"` // net.ipv4.tcp_migrate_req
	Where   string `json:"where"`
	Clients int    `json:"clients"`
	Queued  int    `json:"queued"` // at the listener that is closed
	Reset   int    `json:"reset"`
	Served  int    `json:"served"` // accepted and answered by the other one
}

func runOrphans(ctx context.Context, o Options) (*Result, error) {
	o.say("two listeners on one address, and one of them is closed")
	left, err := observeOrphans(ctx)
	if err != nil {
		return nil, err
	}
	left.Migrate, left.Where = migrateRequests(), "here"
	seen := []Orphaned{left}

	o.say("the same with tcp_migrate_req = 1")
	migrated, err := migratedOrphans(ctx)
	missing := ""
	switch {
	case err != nil:
		missing = fmt.Sprintf("The second half, with tcp_migrate_req = 1, cannot run here (%v): it"+
			" needs root, and Linux 5.14 or later.", err)
	default:
		migrated.Migrate, migrated.Where = "1", "a namespace of its own"
		seen = append(seen, migrated)
	}
	return orphansResult(seen, missing), ctx.Err()
}

const migrateFile = "/proc/sys/net/ipv4/tcp_migrate_req"

// migrateRequests is the setting of this network namespace.
func migrateRequests() string {
	text, err := os.ReadFile(migrateFile)
	if err != nil {
		return "unknown" // before Linux 5.14 there was none, and it was as with 0
	}
	return string(text[:1])
}

// observeOrphans lets clients connect to two listeners on one address, closes one
// without accepting from it, and lets the other serve its own.
func observeOrphans(ctx context.Context) (Orphaned, error) {
	seen := Orphaned{Clients: orphanClients}
	c, err := newCrew(ctx, reusePort, 2, nil) // two listeners; no thread is needed
	if err != nil {
		return seen, err
	}
	defer func() { closeAll(c.open...) }()

	clients, err := connectAll(c, orphanClients)
	defer func() { closeAll(clients...) }()
	if err != nil {
		return seen, err
	}
	closing, staying := c.waiters[0], c.waiters[1]
	info, err := tcpInfo(closing.listener)
	if err != nil {
		return seen, err
	}
	seen.Queued = int(info.Unacked) // of a listener, its accept queue

	c.shut(closing)
	if err := answerQueued(staying.listener); err != nil {
		return seen, err
	}
	for _, fd := range clients {
		n, err := unix.Read(fd, make([]byte, 16))
		switch {
		case n > 0:
			seen.Served++
		case err == unix.ECONNRESET:
			seen.Reset++
		default:
			return seen, fmt.Errorf("a client read %s", outcome(n, err))
		}
	}
	return seen, nil
}

// answerQueued accepts and answers the clients in a queue, until it is empty.
func answerQueued(listener int) error {
	for {
		fd, _, err := unix.Accept4(listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		switch err {
		case nil:
		case unix.EAGAIN:
			return nil
		case unix.EINTR:
			continue
		default:
			return fmt.Errorf("accept4: %w", err)
		}
		_, err = unix.Write(fd, []byte("served"))
		closeAll(fd)
		if err != nil {
			return fmt.Errorf("write: %w", err)
		}
	}
}

// connectAll connects clients, and returns when all are in an accept queue.
func connectAll(c *crew, n int) (clients []int, err error) {
	for range n {
		fd, err := connectTo(c.addr, 0)
		if err != nil {
			return clients, err
		}
		clients = append(clients, fd)
	}
	err = until(c.ctx, patience, func() (bool, error) {
		queued, err := c.inQueues()
		return queued == n, err
	})
	return clients, err
}

// migratedOrphans is observeOrphans in a network namespace of its own, in which a
// listener's orphans go to another one. The thread that is in it ends with it.
func migratedOrphans(ctx context.Context) (seen Orphaned, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlock: it is in another namespace
		if err = ownNetwork(); err != nil {
			return
		}
		if err = os.WriteFile(migrateFile, []byte("1"), 0); err != nil {
			return
		}
		seen, err = observeOrphans(ctx)
	}()
	<-done
	return seen, err
}

// ownNetwork gives this thread a network namespace with nothing in it but
// loopback: network_namespaces(7), netdevice(7).
func ownNetwork() error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	fd, err := newSocket()
	if err != nil {
		return err
	}
	defer closeAll(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo); err != nil {
		return fmt.Errorf("bring lo up: %w", err)
	}
	return nil
}

func orphansResult(seen []Orphaned, missing string) *Result {
	table := Table{
		Title: "Two listeners share an address. One is closed while clients are in its queue.",
		Head:  []string{"tcp_migrate_req", "where", "clients", "in its queue", "reset", "served"},
	}
	r := &Result{Demo: "orphans", Data: seen}
	for _, s := range seen {
		table.Rows = append(table.Rows, []string{
			s.Migrate, s.Where, fmt.Sprint(s.Clients), fmt.Sprint(s.Queued), fmt.Sprint(s.Reset),
			fmt.Sprint(s.Served),
		})
		r.Sentences = append(r.Sentences, fmt.Sprintf("With tcp_migrate_req = %s, %d clients"+
			" were in the closed listener's queue: %d were reset, and %d were served by the other"+
			" listener.", s.Migrate, s.Queued, s.Reset, s.Queued-s.Reset))
	}
	r.Tables = []Table{table}
	if missing != "" {
		r.Sentences = append(r.Sentences, missing)
	}
	return r
}
