//go:build linux

// Package threaded implements step 3: a goroutine for each connection.
//
// It teaches the simplest way to wait for many clients: one goroutine waits for
// each. The code for one client is that of step 1, unchanged, and it still
// blocks in read; but now it blocks only its own goroutine, and with it one OS
// thread, which a blocking system call occupies for as long as it blocks.
//
// It cannot keep many idle clients cheaply. Each costs a thread with its stacks,
// and Go ends a program that needs more than 10,000 threads. So Serve bounds
// their number.
//
// netpoll.go has the same server through package net: a goroutine for each
// connection, and only a few threads.
//
// Its chapters are docs/03-a-goroutine-each.md and docs/10-go-already-does-this.md.
package threaded

import (
	"sync"

	"lesson/blocking"
	"lesson/internal/kernel"
	"lesson/internal/server"
)

// A Server serves each client on a goroutine of its own.
type Server struct {
	*server.Base // the listener, the options, the counters
	one          *blocking.Server
}

// New makes the listener. As in step 1, accept on it blocks.
func New(k kernel.Kernel, options server.Options) (*Server, error) {
	one, err := blocking.New(k, options)
	if err != nil {
		return nil, err
	}
	return &Server{Base: one.Base, one: one}, nil
}

// Serve accepts until Stop, and returns when the last client has been served.
func (s *Server) Serve() error {
	var clients sync.WaitGroup
	defer clients.Wait()
	defer s.CloseListener()

	// A place is taken before accept, not after it. While all are taken, further
	// connections stay in the accept queue, where they cost the server nothing.
	places := make(chan struct{}, s.Options.MaxConns)
	for {
		select {
		case places <- struct{}{}:
		case <-s.Stopped:
			return nil
		}
		fd, err := s.one.Accept()
		if err != nil || fd < 0 {
			s.Stop() // after an error too: ends the reads of all clients
			return err
		}
		clients.Go(func() {
			s.one.ServeClient(fd)
			<-places
		})
	}
}
