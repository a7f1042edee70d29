//go:build linux

package lesson

import (
	"lesson/blocking"
	"lesson/edgetriggered"
	"lesson/epoll"
	"lesson/internal/kernel"
	"lesson/internal/server"
	"lesson/threaded"
)

// lessons is the registry, in the order of every list.
var lessons = []Lesson{
	{
		Step: 1, Name: "blocking", Title: "one blocking accept: one client, then done",
		Command: "lesson blocking", Chapter: "docs/01-one-client.md",
		Files: []string{"blocking/once.go"}, source: blocking.Source,
		Model: Blocking,
		// The second close is the listener's.
		Calls: map[string]int{
			"accept4": 1, "setsockopt": 2, "read": 2, "send": 1, "shutdown": 1, "close": 2,
		},
		Start: func(k kernel.Kernel, o server.Options) (Server, error) {
			s, err := blocking.New(k, o)
			return once{s}, err
		},
		About: `Accepts one connection, reads its request, sends an answer, closes the
connection, and exits with status 0. It blocks in three of its system calls:
--trace shows where.`,
		Examples: `  lesson blocking
  lesson blocking --trace                 see it block in accept4
  lesson blocking --addr '[::1]:9000'     listen on IPv6
  lesson blocking --loop                  the same as lesson loop`,
	},
	{
		Step: 2, Name: "loop", Title: "the accept loop: one client at a time",
		Command: "lesson loop", Chapter: "docs/02-a-loop.md",
		Files: []string{"blocking/loop.go", "blocking/once.go"}, source: blocking.Source,
		Model: Loop, Rank: 3, Flag: "blocking --loop",
		Calls: map[string]int{
			"accept4": 1, "setsockopt": 2, "read": 2, "send": 1, "shutdown": 1, "close": 1,
		},
		Start: func(k kernel.Kernel, o server.Options) (Server, error) {
			s, err := blocking.New(k, o)
			return loop{s}, err
		},
		About: `Serves clients one after the other. While it waits for a slow one, all others
wait in the accept queue.`,
		Examples: `  lesson loop
  lesson loop --trace --timeout 10s       no client delays the others for longer`,
	},
	{
		Step: 3, Name: "threaded", Title: "a goroutine, and an OS thread, per connection",
		Command: "lesson threaded", Chapter: "docs/03-a-goroutine-each.md",
		Files: []string{"threaded/threaded.go", "blocking/once.go"}, source: threaded.Source,
		Model: Threaded, Rank: 2,
		Calls: map[string]int{
			"accept4": 1, "setsockopt": 2, "read": 2, "send": 1, "shutdown": 1, "close": 1,
		},
		Start: func(k kernel.Kernel, o server.Options) (Server, error) {
			return threaded.New(k, o)
		},
		About: `Serves each connection on a goroutine of its own, with the blocking code of
step 1. A goroutine that blocks in a system call occupies an OS thread.

With --netpoll, it does the same through package net: the Go runtime parks a
waiting goroutine and watches its socket with edge-triggered epoll.`,
		Examples: `  lesson threaded
  lesson threaded --max-conns 10          the eleventh client has to wait
  lesson threaded --netpoll               hardly any threads`,
	},
	{
		Step: 4, Name: "epoll", Title: "one event loop, level-triggered epoll",
		Command: "lesson epoll", Chapter: "docs/04-level-triggered.md",
		Files: []string{"epoll/eventloop.go"}, source: epoll.Source,
		Model: EventLoop, Waits: "epoll_wait", Rank: 1,
		Calls: map[string]int{
			"epoll_wait": 3, "accept4": 1, "epoll_ctl": 1,
			"read": 2, "send": 1, "shutdown": 1, "close": 1,
		},
		Start: func(k kernel.Kernel, o server.Options) (Server, error) {
			return epoll.New(k, o)
		},
		About: `Serves all connections on one thread. Only epoll_wait ever blocks. It is
level-triggered: epoll reports a connection again, for as long as it is ready.`,
		Examples: `  lesson epoll
  lesson epoll --edge                     the same as lesson edgetriggered
  lesson epoll --trace                    what epoll_wait returns
  lesson epoll --loops 2 --quiet          a loop for each of two processors`,
	},
	{
		Step: 5, Name: "edgetriggered", Title: "one event loop, edge-triggered epoll",
		Command: "lesson edgetriggered", Chapter: "docs/05-edge-triggered.md",
		Files: []string{"edgetriggered/eventloop.go"}, source: edgetriggered.Source,
		Model: EventLoop, Waits: "epoll_wait", Edge: true, Rank: 1, Flag: "epoll --edge",
		// The accept4 and the read more than above are those that return EAGAIN.
		Calls: map[string]int{
			"epoll_wait": 3, "accept4": 2, "epoll_ctl": 1,
			"read": 3, "send": 1, "shutdown": 1, "close": 1,
		},
		Start: func(k kernel.Kernel, o server.Options) (Server, error) {
			return edgetriggered.New(k, o)
		},
		About: `Serves all connections on one thread, as step 4 does. It is edge-triggered:
epoll reports each change once, so the server must read and accept until EAGAIN.`,
		Examples: `  lesson edgetriggered
  lesson edgetriggered --trace            see it read and accept until EAGAIN
  lesson diff epoll edgetriggered         what differs from step 4`,
	},
	{
		Step: 3, Name: "netpoll", Title: "a goroutine per connection, parked by package net",
		Command: "lesson threaded --netpoll", Chapter: "docs/10-go-already-does-this.md",
		Files: []string{"threaded/netpoll.go"}, source: threaded.Source,
		Model: EventLoop, Rank: 2, Flag: "threaded --netpoll", Untraced: true,
		Start: func(k kernel.Kernel, o server.Options) (Server, error) {
			return threaded.NewNetpoll(k, o)
		},
	},
}

// once and loop call the two methods of package blocking Serve.
type once struct{ *blocking.Server }

func (s once) Serve() error { return s.Once() }

type loop struct{ *blocking.Server }

func (s loop) Serve() error { return s.Loop() }
