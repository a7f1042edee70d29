//go:build linux

package sockets_test

import (
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"lesson/internal/observe/sockets"
)

func addrPort(a net.Addr) netip.AddrPort {
	ap := a.(*net.TCPAddr).AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually waits for a condition: what a segment does to the other end is not
// there the moment it has been sent.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for began := time.Now(); !holds(); time.Sleep(time.Millisecond) {
		if time.Since(began) > 10*time.Second {
			t.Fatalf("not within 10 s: %s", what)
		}
	}
}

func TestALifeOfAConnection(t *testing.T) {
	for _, where := range []string{"127.0.0.1:0", "[::1]:0", "[::]:0"} {
		t.Run(where, func(t *testing.T) {
			l, err := net.Listen("tcp", where)
			must(t, err)
			defer l.Close()
			at := addrPort(l.Addr())
			if at.Addr().IsUnspecified() { // an IPv6 listener that serves IPv4 too
				at = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), at.Port())
			}
			queued := func() uint32 {
				listeners, err := sockets.Listeners(at.Port())
				must(t, err)
				if len(listeners) != 1 {
					t.Fatalf("%d listeners on port %d, want 1: %+v", len(listeners), at.Port(), listeners)
				}
				return listeners[0].Unread
			}
			if got := queued(); got != 0 {
				t.Errorf("%d connections in the accept queue before the first", got)
			}
			c, err := net.Dial("tcp", at.String())
			must(t, err)
			defer c.Close()
			theirs := func() sockets.Socket {
				s, err := sockets.Connection(at, addrPort(c.LocalAddr()))
				must(t, err)
				return s
			}
			eventually(t, "the connection is in the accept queue", func() bool { return queued() == 1 })
			if s := theirs(); s.Inode != 0 || s.State != sockets.Established {
				t.Errorf("in the accept queue it is %+v, want no inode, ESTABLISHED", s)
			}
			_, err = c.Write([]byte("twelve bytes"))
			must(t, err)
			eventually(t, "12 bytes are unread", func() bool { return theirs().Unread == 12 })

			conn, err := l.Accept()
			must(t, err)
			if s := theirs(); s.Inode == 0 {
				t.Errorf("accepted, it is %+v, want an inode", s)
			}
			_, err = conn.Read(make([]byte, 5))
			must(t, err)
			if s := theirs(); s.Unread != 7 {
				t.Errorf("after reading 5 of 12 bytes, %d are unread", s.Unread)
			}
			must(t, conn.Close()) // with bytes unread: a reset, nothing stays
			eventually(t, "the connection is gone", func() bool {
				_, err := sockets.Connection(at, addrPort(c.LocalAddr()))
				return errors.Is(err, sockets.ErrNone)
			})
		})
	}
}

func TestWhoClosesFirstWaits(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	at := addrPort(l.Addr())
	c, err := net.Dial("tcp", at.String())
	must(t, err)
	conn, err := l.Accept()
	must(t, err)
	must(t, conn.Close())
	_, err = c.Read(make([]byte, 1)) // end of file
	if err == nil {
		t.Fatal("read a byte, want end of file")
	}
	must(t, c.Close())
	eventually(t, "one connection in TIME_WAIT", func() bool {
		waiting, err := sockets.InState(at.Port(), sockets.TimeWait)
		must(t, err)
		return len(waiting) == 1
	})
}

func TestNoSuchConnection(t *testing.T) {
	nobody := netip.MustParseAddrPort("127.0.0.1:1")
	if s, err := sockets.Connection(nobody, nobody); !errors.Is(err, sockets.ErrNone) {
		t.Errorf("got %+v, %v, want %v", s, err, sockets.ErrNone)
	}
}

func TestOpenIsTheListenerAndItsConnections(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	at := addrPort(l.Addr())
	c, err := net.Dial("tcp", at.String())
	must(t, err)
	defer c.Close()
	eventually(t, "a listener and a connection", func() bool {
		open, err := sockets.Open(at.Port())
		must(t, err)
		states := map[sockets.State]int{}
		for _, s := range open {
			states[s.State]++
		}
		return len(open) == 2 && states[sockets.Listen] == 1 && states[sockets.Established] == 1
	})
}
