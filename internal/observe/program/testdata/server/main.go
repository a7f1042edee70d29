//go:build linux

// Command server is watched by the tests: it makes system calls in several ways, and
// each line that makes one says which.
package main

import (
	"fmt"
	"net"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

func main() {
	addr, err := netip.ParseAddrPort(os.Args[1])
	must(err)
	if os.Args[2] == "net" {
		usePackageNet(addr.String())
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0) // socket
	must(err)
	must(unix.Bind(fd, &unix.SockaddrInet4{Addr: addr.Addr().As4(), Port: int(addr.Port())})) // bind
	must(unix.Listen(fd, 7))                                                                  // listen
	epfd, err := unix.EpollCreate1(0)                                                         // epoll_create1
	must(err)
	must(watch(epfd, fd))
	for {
		fmt.Println(wait(epfd))
		conn, _, err := unix.Accept(fd) // accept4
		must(err)
		talk(conn)
	}
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// watch hands epoll something else than the descriptor.
func watch(epfd, fd int) error {
	return unix.EpollCtl(epfd, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: 4711}) // epoll_ctl
}

// wait is small enough to be inlined.
func wait(epfd int) int32 {
	var events [8]unix.EpollEvent
	for {
		if n, _ := unix.EpollWait(epfd, events[:], -1); n > 0 { // epoll_wait
			return events[0].Fd
		}
	}
}

func talk(conn int) {
	var buffer [100]byte
	n, err := unix.Read(conn, buffer[:]) // read
	must(err)
	_, err = unix.Write(conn, buffer[:n]) // write
	must(err)
	must(unix.Shutdown(conn, unix.SHUT_WR)) // shutdown
	must(unix.Close(conn))                  // close
}

func usePackageNet(addr string) {
	l, err := net.Listen("tcp", addr)
	must(err)
	for {
		c, err := l.Accept() // accept4
		must(err)
		_, err = c.Read(make([]byte, 100)) // read
		must(err)
		must(c.Close())
	}
}
