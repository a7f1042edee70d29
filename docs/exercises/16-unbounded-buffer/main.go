//go:build linux

// A server on blocking sockets, a goroutine for each client. It mostly works:
// see README.md beside it.
package main

import (
	"fmt"
	"log"
	"net/netip"
	"os"
	"os/signal"
	"regexp"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	maxClients  = 4000                    // served at a time; the others wait
	lingerTime  = time.Second             // from the response to close, at most
	lingerBytes = 1 << 20                 // read and discarded meanwhile, at most
	acceptPause = 100 * time.Millisecond  // when descriptors have run out
	stopTime    = 1500 * time.Millisecond // from a signal to the end, at most

	response = "HTTP/1.0 200 OK\r\nDate: Mon, 1 Jan 1996 01:01:01 GMT\r\n" +
		"Content-Type: text/plain\r\nContent-Length: 13\r\n\r\nHello, world!"
)

var terminator = regexp.MustCompile("\n\r?\n")

func main() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM)

	addr := "127.0.0.1:8080"
	if len(os.Args) > 1 {
		addr = os.Args[1]
	}
	a, err := netip.ParseAddrPort(addr)
	must("host:port", err)
	listener, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	must("socket", err)
	must("setsockopt", unix.SetsockoptInt(listener, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1))
	must("bind", unix.Bind(listener,
		&unix.SockaddrInet4{Addr: a.Addr().As4(), Port: int(a.Port())}))
	must("listen", unix.Listen(listener, 4096))

	go func() {
		<-signals
		_ = unix.Shutdown(listener, unix.SHUT_RD) // accept4 fails with EINVAL
		sleep(stopTime)
		os.Exit(0) // requests that are still incomplete get no answer
	}()
	fmt.Fprintln(os.Stderr, "listening on", addr)
	serve(listener)
}

func must(call string, err error) {
	if err != nil {
		log.Fatalf("%s: %v", call, err)
	}
}

// serve serves each client on a goroutine of its own until a signal comes, and
// returns when the last one has been served.
func serve(listener int) {
	var clients sync.WaitGroup
	defer clients.Wait()
	// A blocking call occupies a thread, and Go ends a program that needs more
	// than 10,000. While all places are taken, clients wait in the accept queue.
	places := make(chan struct{}, maxClients)
	for {
		places <- struct{}{}
		fd := accept(listener)
		if fd < 0 {
			return
		}
		clients.Go(func() {
			serveClient(fd)
			<-places
		})
	}
}

// accept takes one connection from the accept queue, and blocks while
// the queue is empty. It returns -1 when a signal has come instead.
func accept(listener int) int {
	for {
		fd, _, err := unix.Accept4(listener, unix.SOCK_CLOEXEC)
		switch err {
		case nil:
			return fd
		case unix.EINVAL: // shut down
			return -1
		case unix.EINTR, unix.ECONNABORTED:
			continue // that connection is gone: accept the next
		default: // out of descriptors or memory: an immediate retry would fail
			sleep(acceptPause)
		}
	}
}

// serveClient serves one client, from its first byte to close.
func serveClient(fd int) {
	defer unix.Close(fd)
	answer := readRequest(fd)
	if answer != "" && send(fd, []byte(answer)) {
		linger(fd)
	}
}

// readRequest reads a request and returns the answer to it, "" if no client is
// left to answer.
func readRequest(fd int) string {
	var request []byte
	var buffer [1024]byte
	for {
		n, err := unix.Read(fd, buffer[:])
		switch {
		case err == unix.EINTR:
			continue
		case err != nil || n == 0: // a reset, or end of file
			return ""
		}
		from := max(len(request)-2, 0) // a terminator may have been cut in two
		request = append(request, buffer[:n]...)
		end := terminator.FindIndex(request[from:])
		if end != nil {
			fmt.Printf("----------------------------------------\n%q\n", request[:from+end[1]])
			return response
		}
	}
}

// send sends everything, or returns false. One call may send fewer bytes than
// it is given.
func send(fd int, unsent []byte) bool {
	for len(unsent) > 0 {
		n, err := unix.Write(fd, unsent)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil: // EPIPE, ECONNRESET: the client is gone
			return false
		}
		unsent = unsent[n:]
	}
	return true
}

// linger sends the end of file, and then reads until the client closes. If the
// server closed now while bytes of the client were unread, or came later, the
// kernel would send a reset. The client may then lose the response: the kernel drops
// what the send buffer still holds, and a client that is still sending gets an error.
func linger(fd int) {
	if unix.Shutdown(fd, unix.SHUT_WR) != nil {
		return // ENOTCONN: the client has reset the connection
	}
	var buffer [1024]byte
	discarded, end := 0, time.Now().Add(lingerTime)
	for left := lingerTime; left > 0 && discarded <= lingerBytes; left = time.Until(end) {
		limit := unix.NsecToTimeval(int64(left))
		if unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit) != nil {
			return
		}
		n, err := unix.Read(fd, buffer[:])
		switch {
		case err == unix.EINTR:
			continue
		case err != nil || n == 0: // EAGAIN: the time is up
			return
		}
		discarded += n
	}
}

// sleep makes a system call and does not use time.Sleep: for a timer, Go opens a descriptor
// of its own, and none may be left.
func sleep(d time.Duration) {
	t := unix.NsecToTimespec(int64(d))
	_ = unix.Nanosleep(&t, nil)
}
