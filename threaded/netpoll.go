//go:build linux

package threaded

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"lesson/internal/kernel"
	"lesson/internal/protocol"
	"lesson/internal/server"
)

// A Netpoll serves each client on a goroutine of its own, through package net. Its
// code looks like blocking code and blocks no thread: package net makes every socket
// non-blocking, adds it to one interest list of the Go runtime, edge-triggered, and
// parks the goroutine until an event for it arrives.
type Netpoll struct {
	*server.Base // without a listener: package net has its own

	listener *net.TCPListener

	mu      sync.Mutex
	waiting map[*net.TCPConn]bool // reading a request
}

// NewNetpoll makes a listener through package net. k makes the few calls for
// which package net has no method.
func NewNetpoll(k kernel.Kernel, options server.Options) (*Netpoll, error) {
	s := &Netpoll{
		Base:    server.New(k, options),
		waiting: make(map[*net.TCPConn]bool),
	}
	config := net.ListenConfig{
		KeepAlive: -1, // it would cost four calls for each connection
		Control: func(_, _ string, c syscall.RawConn) error {
			return withDescriptor(c, s.SetListenerOptions)
		},
	}
	config.SetMultipathTCP(false) // package net would ask for it, and no other lesson does
	listener, err := config.Listen(context.Background(), "tcp", options.Addr.String())
	if err != nil {
		return nil, err
	}
	s.listener = listener.(*net.TCPListener)

	// Package net always asks for the longest queue that the kernel allows. Calling
	// listen(2) on a listener changes the length of its queue.
	raw, err := s.listener.SyscallConn()
	if err == nil {
		err = withDescriptor(raw, func(fd int) error { return k.Listen(fd, options.Backlog) })
	}
	if err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	return s, nil
}

// withDescriptor calls f with the descriptor inside c.
func withDescriptor(c syscall.RawConn, f func(fd int) error) error {
	var err error
	if outer := c.Control(func(fd uintptr) { err = f(int(fd)) }); outer != nil {
		return outer
	}
	return err
}

// Addr returns where the server listens.
func (s *Netpoll) Addr() netip.AddrPort {
	return s.listener.Addr().(*net.TCPAddr).AddrPort()
}

// Serve accepts until Stop, and returns when the last client has been served.
func (s *Netpoll) Serve() error {
	var clients sync.WaitGroup
	defer clients.Wait()
	for {
		conn, err := s.listener.AcceptTCP()
		var errno syscall.Errno
		switch {
		case err == nil:
			s.Stats.Accepted.Add(1)
			clients.Go(func() { s.serveClient(conn) })
		case s.Stopping():
			return nil // Stop has closed the listener
		case errors.As(err, &errno) && kernel.IsExhausted(errno):
			time.Sleep(server.AcceptPause) // an immediate retry would fail
		case errors.As(err, &errno) && kernel.IsConnectionError(errno):
			// that client is gone: accept the next
		case errors.As(err, &errno) && errno == unix.ENOSPC:
			// Accepted, and closed again: the runtime's epoll_ctl has failed, because
			// the user watches as many descriptors as fs.epoll.max_user_watches allows.
			s.Stats.Accepted.Add(1)
			s.Stats.Refused.Add(1)
		default:
			s.Stop() // ends the reads of all clients
			return err
		}
	}
}

// Stop asks the server to end, like Base.Stop, with the methods of package net:
// closing the listener ends Accept; shutting down the receiving side ends Read
// after Read has returned what has arrived. (A read deadline in the past would end
// Read without that.)
func (s *Netpoll) Stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.Stopping() {
		return
	}
	s.Base.Stop()
	_ = s.listener.Close() // if it fails, no client is lost
	for conn := range s.waiting {
		_ = conn.CloseRead() // fails only if the client has gone
	}
}

// serveClient does what blocking.ServeClient does, through package net.
func (s *Netpoll) serveClient(conn *net.TCPConn) {
	defer conn.Close()
	switch s.readRequest(conn) {
	case protocol.Complete:
		if s.write(conn, protocol.Response) {
			s.Stats.Served.Add(1)
			s.linger(conn)
		}
	case protocol.Oversize:
		s.Stats.Refused.Add(1)
		if s.write(conn, protocol.TooLarge) {
			s.linger(conn)
		}
	}
}

func (s *Netpoll) readRequest(conn *net.TCPConn) protocol.Status {
	s.startWaiting(conn)
	defer s.stopWaiting(conn)

	var request protocol.Request
	var buffer [1024]byte
	for {
		n, err := conn.Read(buffer[:])
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			s.Stats.TimedOut.Add(1)
			return protocol.Incomplete
		case errors.Is(err, io.EOF): // before the end of the request: no response
			s.Stats.Left.Add(1)
			return protocol.Incomplete
		case err != nil:
			s.Stats.Reset.Add(1)
			return protocol.Incomplete
		}
		status := request.Add(buffer[:n])
		if status == protocol.Complete {
			s.Print(request.Bytes())
		}
		if status != protocol.Incomplete {
			return status
		}
	}
}

// startWaiting sets the connection's deadline, or ends it if Stop came first.
func (s *Netpoll) startWaiting(conn *net.TCPConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting[conn] = true
	if s.Stopping() {
		_ = conn.CloseRead()
	}
	if s.Options.Timeout > 0 {
		// It fails only on a closed connection, and then Read fails too.
		_ = conn.SetReadDeadline(time.Now().Add(s.Options.Timeout))
	}
}

func (s *Netpoll) stopWaiting(conn *net.TCPConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.waiting, conn)
}

// write needs no loop: Write of package net returns when everything is written.
func (s *Netpoll) write(conn *net.TCPConn, response []byte) bool {
	s.cork(conn, 1)
	if _, err := conn.Write(response); err != nil {
		s.Stats.Reset.Add(1)
		return false
	}
	s.cork(conn, 0)
	return true
}

// cork does what step 1's cork does, on the descriptor inside conn.
func (s *Netpoll) cork(conn *net.TCPConn, on int) {
	if !s.Options.Cork {
		return
	}
	if raw, err := conn.SyscallConn(); err == nil {
		_ = withDescriptor(raw, func(fd int) error {
			return s.Kernel.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_CORK, on)
		})
	}
}

// linger does what step 1's linger does, for the same reason.
func (s *Netpoll) linger(conn *net.TCPConn) {
	if err := conn.CloseWrite(); err != nil {
		return // the client has reset the connection
	}
	if err := conn.SetReadDeadline(time.Now().Add(server.LingerTime)); err != nil {
		return
	}
	var buffer [1024]byte
	for discarded := 0; discarded <= server.LingerBytes; {
		n, err := conn.Read(buffer[:])
		if err != nil { // end of file, a reset, or the time is over
			return
		}
		discarded += n
	}
}
