// A level-triggered server that keeps all it knows in variables at package level. A second
// goroutine answers, 2 ms after a request. Without their first values in each order, a descriptor
// would be taken for one of the order before, and the channel would belong to no bubble.
package main

import (
	"bytes"
	"flag"
	"log"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const response = "HTTP/1.0 200 OK\r\nDate: Mon, 1 Jan 1996 01:01:01 GMT\r\n" +
	"Content-Type: text/plain\r\nContent-Length: 13\r\n\r\nHello, world!"

type connection struct {
	fd       int
	request  []byte
	answered bool // the response is on its way, or sent
	closed   bool
}

var (
	addr     = flag.String("addr", "", "where to listen")
	lock     sync.Mutex
	known    = map[int]*connection{}
	requests = make(chan *connection, 100)
	once     sync.Once
	accept   = func(listener int) (int, error) {
		fd, _, err := unix.Accept4(listener, unix.SOCK_NONBLOCK)
		return fd, err
	}
	list   int
	buffer []byte
)

func init() { buffer = make([]byte, 4096) }

func main() {
	flag.Parse()
	a := netip.MustParseAddrPort(*addr)
	listener, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0)
	must(err)
	must(unix.Bind(listener, &unix.SockaddrInet4{Addr: a.Addr().As4(), Port: int(a.Port())}))
	must(unix.Listen(listener, 100))
	once.Do(func() { list, err = unix.EpollCreate1(0) })
	must(err)
	watch(unix.EPOLL_CTL_ADD, listener, unix.EPOLLIN)
	go answer()
	for {
		events := make([]unix.EpollEvent, 8)
		n, err := unix.EpollWait(list, events, -1)
		if err != unix.EINTR {
			must(err)
		}
		for _, event := range events[:max(n, 0)] {
			if int(event.Fd) == listener {
				begin(listener)
			} else {
				read(known[int(event.Fd)])
			}
		}
	}
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func watch(op, fd int, events uint32) {
	must(unix.EpollCtl(list, op, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)}))
}

func begin(listener int) {
	fd, err := accept(listener)
	if err == unix.EMFILE || err == unix.ENOBUFS {
		time.Sleep(10 * time.Millisecond)
	}
	if err != nil {
		return
	}
	if known[fd] != nil {
		log.Fatalf("%d is known already", fd)
	}
	known[fd] = &connection{fd: fd}
	watch(unix.EPOLL_CTL_ADD, fd, unix.EPOLLIN)
}

func read(c *connection) {
	lock.Lock()
	defer lock.Unlock()
	n, err := unix.Read(c.fd, buffer)
	switch {
	case err == unix.EAGAIN || err == unix.EINTR:
	case n == 0 && c.answered && err == nil && len(c.request) > 0:
		c.request = nil // what follows is the response
		watch(unix.EPOLL_CTL_MOD, c.fd, 0)
	case n <= 0:
		end(c)
	case !c.answered:
		c.request = append(c.request, buffer[:n]...)
		switch {
		case bytes.Contains(c.request, []byte("\n\r\n")):
			c.answered = true
			requests <- c
		case len(c.request) > 8192:
			end(c)
		}
	}
}

func end(c *connection) {
	if !c.closed {
		c.closed = true
		delete(known, c.fd)
		must(unix.Close(c.fd))
	}
}

func answer() {
	for c := range requests {
		time.AfterFunc(2*time.Millisecond, func() { send(c, []byte(response)) })
	}
}

func send(c *connection, rest []byte) {
	lock.Lock()
	defer lock.Unlock()
	for len(rest) > 0 && !c.closed {
		n, err := unix.Write(c.fd, rest)
		switch {
		case err == unix.EAGAIN:
			time.AfterFunc(time.Millisecond, func() { send(c, rest) })
			return
		case err != nil && err != unix.EINTR:
			end(c)
			return
		}
		rest = rest[max(n, 0):]
	}
	if c.closed {
		return
	}
	if unix.Shutdown(c.fd, unix.SHUT_WR) != nil || len(c.request) == 0 {
		end(c)
	}
}
