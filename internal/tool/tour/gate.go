//go:build linux

package tour

import (
	"context"
	"net"
	"slices"
	"sync"
)

// mostConnections bounds the connections that pages have open to the tour: the streams of
// all sessions, and four times as many.
const mostConnections = 320

// sendBuffer bounds what the kernel keeps for a page that does not read, in bytes.
const sendBuffer = 128 << 10

// A gate is a listener that has so many connections at a time. When there are more, it
// closes the one that has been without a whole request for the longest: a connection that
// sends nothing, or slowly, keeps no page out.
type gate struct {
	net.Listener
	most int

	mu      sync.Mutex
	freed   sync.Cond // a connection has been closed, or is idle again
	held    int
	idle    []*visitor // without a whole request; the longest first
	closing bool
}

// A visitor is a connection of a gate.
type visitor struct {
	net.Conn
	gate *gate
	left bool // guarded by the gate's mu
}

func newGate(l net.Listener, most int) *gate {
	g := &gate{Listener: l, most: most}
	g.freed.L = &g.mu
	return g
}

// Accept accepts a connection, and returns when there is room for it.
func (g *gate) Accept() (net.Conn, error) {
	conn, err := g.Listener.Accept()
	if err != nil {
		return nil, err
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetWriteBuffer(sendBuffer) // without it, the kernel keeps more
	}
	g.mu.Lock()
	for g.held >= g.most && !g.closing {
		if len(g.idle) > 0 {
			_ = g.idle[0].leave() // no answer was due
		} else {
			g.freed.Wait()
		}
	}
	defer g.mu.Unlock()
	if g.closing {
		_ = conn.Close() // nothing has been said on it
		return nil, net.ErrClosed
	}
	v := &visitor{Conn: conn, gate: g}
	g.held++
	g.idle = append(g.idle, v)
	return v, nil
}

// Close closes the listener. The connections stay.
func (g *gate) Close() error {
	g.mu.Lock()
	g.closing = true
	g.freed.Broadcast()
	g.mu.Unlock()
	return g.Listener.Close()
}

// leave closes the connection. The gate's lock is held.
func (v *visitor) leave() error {
	if !v.left {
		v.left = true
		v.gate.held--
		v.gate.remove(v)
		v.gate.freed.Broadcast()
	}
	return v.Conn.Close()
}

// remove removes a connection from the idle ones. The lock is held.
func (g *gate) remove(v *visitor) {
	g.idle = slices.DeleteFunc(g.idle, func(other *visitor) bool { return other == v })
}

// Close closes the connection, and makes room for another.
func (v *visitor) Close() error {
	v.gate.mu.Lock()
	defer v.gate.mu.Unlock()
	return v.leave()
}

// asks notes that the connection has a whole request, until answered is called.
func (v *visitor) asks() (answered func()) {
	g := v.gate
	g.mu.Lock()
	defer g.mu.Unlock()
	g.remove(v)
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		if !v.left {
			g.idle = append(g.idle, v)
			g.freed.Broadcast()
		}
	}
}

// visitorKey is the key of a request's visitor in its context.
type visitorKey struct{}

// withVisitor is for http.Server.ConnContext.
func withVisitor(ctx context.Context, conn net.Conn) context.Context {
	return context.WithValue(ctx, visitorKey{}, conn)
}

// asks notes that the request is whole, until answered is called.
func asks(ctx context.Context) (answered func()) {
	if v, ok := ctx.Value(visitorKey{}).(*visitor); ok {
		return v.asks()
	}
	return func() {} // a test's
}
