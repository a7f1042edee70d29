//go:build linux

// Package blocking implements steps 1 and 2: blocking sockets, one client at a time.
//
// It teaches the life of a connection: accept, read, send, shut down, close. It
// shows the three calls in which a blocking server blocks: accept4 until a
// client connects, read until the client sends, send until there is room in the
// send buffer.
//
// It cannot serve a second client while the first one is slow. Steps 3 to 5 can,
// in three ways.
//
// Its chapters are docs/01-one-client.md (for once.go) and docs/02-a-loop.md (for
// loop.go).
package blocking

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"lesson/internal/kernel"
	"lesson/internal/protocol"
	"lesson/internal/server"
)

// A Server serves clients one after the other. Once is step 1, Loop is step 2.
type Server struct{ *server.Base } // Base: the listener, the options, the counters

// New makes the listener: socket, setsockopt, bind, listen. From now on the
// kernel completes connections by itself and keeps them in the accept queue,
// whether or not the server accepts them.
func New(k kernel.Kernel, options server.Options) (*Server, error) {
	base, err := server.Listen(k, options, 0)
	if err != nil {
		return nil, err
	}
	return &Server{base}, nil
}

// Once serves one client and returns.
func (s *Server) Once() error {
	defer s.CloseListener()
	fd, err := s.Accept()
	if err != nil || fd < 0 {
		return err
	}
	s.ServeClient(fd)
	return nil
}

// Accept takes one connection from the accept queue, and blocks while the queue
// is empty. It returns the connection's descriptor, or -1 if the server has been
// stopped.
func (s *Server) Accept() (int, error) {
	for {
		fd, err := s.Kernel.Accept4(s.Listener, unix.SOCK_CLOEXEC)
		switch {
		case err == nil:
			s.Stats.Accepted.Add(1)
			return fd, nil
		case s.Stopping():
			return -1, nil // Stop has shut the listener down
		case kernel.IsConnectionError(err):
			continue // EINTR, or that client is gone: try the next
		case kernel.IsExhausted(err):
			_ = s.Kernel.Nanosleep(server.AcceptPause) // an immediate retry would fail
		default:
			return -1, fmt.Errorf("accept4: %w", err)
		}
	}
}

// ServeClient serves one client, from its first byte to close. An error of one
// client is not an error of the server: it ends this connection, and is counted.
func (s *Server) ServeClient(fd int) {
	defer s.Kernel.Close(fd) // Linux closes it whatever close returns

	switch s.readRequest(fd) {
	case protocol.Complete:
		if s.send(fd, protocol.Response) {
			s.Stats.Served.Add(1)
			s.linger(fd)
		}
	case protocol.Oversize:
		s.Stats.Refused.Add(1)
		if s.send(fd, protocol.TooLarge) {
			s.linger(fd)
		}
	}
}

// readRequest reads until the request is complete, or too large. If it returns
// Incomplete, the time is up or the client has gone, and there is no answer.
func (s *Server) readRequest(fd int) protocol.Status {
	s.Waiting(fd) // lets Stop end a blocked read
	defer s.NotWaiting(fd)

	var request protocol.Request
	var buffer [1024]byte
	accepted := s.Kernel.Now()
	for {
		// The time counts from accept, not from the last byte: sending a byte
		// at a time does not give a client more.
		if !s.waitAtMost(fd, accepted, s.Options.Timeout) {
			s.Stats.TimedOut.Add(1)
			return protocol.Incomplete
		}
		n, err := s.Kernel.Read(fd, buffer[:])
		switch {
		case err == unix.EINTR || err == unix.EAGAIN:
			continue // EAGAIN: SO_RCVTIMEO has expired; waitAtMost returns false
		case err != nil: // ECONNRESET
			s.Stats.Reset.Add(1)
			return protocol.Incomplete
		case n == 0: // end of file before the end of the request: no response
			s.Stats.Left.Add(1)
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

// waitAtMost lets reads on fd block for the rest of limit, which counts from
// since; a read that gets nothing in that time fails with EAGAIN. It returns
// false if no time is left, or if the read cannot be bounded. A limit of 0 means
// forever.
func (s *Server) waitAtMost(fd int, since, limit time.Duration) bool {
	if limit == 0 {
		return true
	}
	left := since + limit - s.Kernel.Now()
	if left <= 0 {
		return false
	}
	// SO_RCVTIMEO counts microseconds, and 0 means forever.
	left = max(left, time.Microsecond)
	err := s.Kernel.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, left)
	return err == nil
}

// send sends everything, or returns false. One call may send fewer bytes than it
// is given. It blocks while the send buffer is full. A new connection's buffer has
// room for the response many times over, so here it never blocks.
//
// MSG_MORE: more is coming, namely the end of file, which linger sends. The last
// bytes wait for it, and both leave in one segment. MSG_NOSIGNAL: if the client is
// gone, send returns EPIPE and raises no SIGPIPE.
func (s *Server) send(fd int, unsent []byte) bool {
	s.cork(fd, 1)
	for len(unsent) > 0 {
		n, err := s.Kernel.Send(fd, unsent, unix.MSG_MORE|unix.MSG_NOSIGNAL)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil: // EPIPE, ECONNRESET
			s.Stats.Reset.Add(1)
			return false
		}
		unsent = unsent[n:]
	}
	s.cork(fd, 0)
	return true
}

// linger sends the end of file and then reads until the client closes. If it closed
// the connection now while bytes of the client were unread, or still to come, the kernel
// would send a reset. The client may then lose the response: the kernel drops what the
// send buffer still holds, and a client that is still sending gets an error.
func (s *Server) linger(fd int) {
	if err := s.Kernel.Shutdown(fd, unix.SHUT_WR); err != nil {
		return // ENOTCONN: the client has reset the connection
	}
	var buffer [1024]byte
	since := s.Kernel.Now()
	for discarded := 0; discarded <= server.LingerBytes; {
		if !s.waitAtMost(fd, since, server.LingerTime) {
			return
		}
		n, err := s.Kernel.Read(fd, buffer[:])
		switch {
		case err == unix.EINTR || err == unix.EAGAIN:
			continue
		case err != nil || n == 0: // a reset, or end of file
			return
		}
		discarded += n
	}
}

// cork makes the kernel hold back partial segments (1) or send them (0): the
// tutorial's example 5. If it fails, the response is sent without it.
func (s *Server) cork(fd, on int) {
	if s.Options.Cork {
		_ = s.Kernel.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_CORK, on)
	}
}
