//go:build linux

package sockets_test

import (
	"errors"
	"net"
	"net/netip"
	"testing"

	"lesson/internal/observe/sockets"
	"lesson/internal/proof"
)

func addrPort(a net.Addr) netip.AddrPort {
	ap := a.(*net.TCPAddr).AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// listen returns a listener on a port that has no other: another program may have the same
// port of another address.
func listen(t *testing.T, network, where string) (l net.Listener) {
	t.Helper()
	proof.Eventually(t, "a port for itself", func() bool {
		var err error
		l, err = net.Listen(network, where)
		proof.Must(t, err)
		all, err := sockets.Listeners(addrPort(l.Addr()).Port())
		proof.Must(t, err)
		if len(all) > 1 {
			proof.Must(t, l.Close())
		}
		return len(all) == 1
	})
	return l
}

func TestALifeOfAConnection(t *testing.T) {
	for _, where := range []string{"127.0.0.1:0", "[::1]:0", "[::]:0"} {
		t.Run(where, func(t *testing.T) {
			l := listen(t, "tcp", where)
			defer l.Close()
			at := addrPort(l.Addr())
			if at.Addr().IsUnspecified() { // an IPv6 listener that serves IPv4 too
				at = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), at.Port())
			}
			queued := func() uint32 {
				listeners, err := sockets.Listeners(at.Port())
				proof.Must(t, err)
				if len(listeners) != 1 {
					t.Fatalf("%d listeners on port %d, want 1: %+v", len(listeners), at.Port(), listeners)
				}
				return listeners[0].Unread
			}
			if got := queued(); got != 0 {
				t.Errorf("%d connections in the accept queue before the first", got)
			}
			c, err := net.Dial("tcp", at.String())
			proof.Must(t, err)
			defer c.Close()
			theirs := func() sockets.Socket {
				s, err := sockets.Connection(at, addrPort(c.LocalAddr()))
				proof.Must(t, err)
				return s
			}
			proof.Eventually(t, "the connection is in the accept queue", func() bool { return queued() == 1 })
			if s := theirs(); s.Inode != 0 || s.State != sockets.Established {
				t.Errorf("in the accept queue it is %+v, want no inode, ESTABLISHED", s)
			}
			_, err = c.Write([]byte("twelve bytes"))
			proof.Must(t, err)
			proof.Eventually(t, "12 bytes are unread", func() bool { return theirs().Unread == 12 })

			conn, err := l.Accept()
			proof.Must(t, err)
			if s := theirs(); s.Inode == 0 {
				t.Errorf("accepted, it is %+v, want an inode", s)
			}
			_, err = conn.Read(make([]byte, 5))
			proof.Must(t, err)
			if s := theirs(); s.Unread != 7 {
				t.Errorf("after reading 5 of 12 bytes, %d are unread", s.Unread)
			}
			proof.Must(t, conn.Close()) // with bytes unread: a reset, nothing stays
			proof.Eventually(t, "the connection is gone", func() bool {
				_, err := sockets.Connection(at, addrPort(c.LocalAddr()))
				return errors.Is(err, sockets.ErrNone)
			})
		})
	}
}

func TestWhoClosesFirstWaits(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	proof.Must(t, err)
	defer l.Close()
	at := addrPort(l.Addr())
	// A machine that has the most connections in TIME_WAIT that it keeps forgets this one.
	proof.Eventually(t, "a connection in TIME_WAIT", func() bool {
		c, err := net.Dial("tcp", at.String())
		proof.Must(t, err)
		conn, err := l.Accept()
		proof.Must(t, err)
		proof.Must(t, conn.Close())
		_, err = c.Read(make([]byte, 1)) // end of file
		if err == nil {
			t.Fatal("read a byte, want end of file")
		}
		proof.Must(t, c.Close())
		waiting, err := sockets.InState(at.Port(), sockets.TimeWait)
		proof.Must(t, err)
		return len(waiting) > 0
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
	proof.Must(t, err)
	defer l.Close()
	at := addrPort(l.Addr())
	c, err := net.Dial("tcp", at.String())
	proof.Must(t, err)
	defer c.Close()
	for name, open := range map[string]func(uint16) ([]sockets.Socket, error){
		"Open": sockets.Open, "OpenAt": func(port uint16) ([]sockets.Socket, error) {
			return sockets.OpenAt(1, port, 2)
		},
	} {
		proof.Eventually(t, name+" has a listener and a connection", func() bool {
			open, err := open(at.Port())
			proof.Must(t, err)
			states := map[sockets.State]int{}
			for _, s := range open {
				states[s.State]++
			}
			return len(open) == 2 && states[sockets.Listen] == 1 && states[sockets.Established] == 1
		})
	}
}

func TestListenersThatAClientReaches(t *testing.T) {
	for _, test := range []struct {
		network, listens string
		four, six, only6 bool
	}{
		{"tcp", "127.0.0.1:0", true, false, false},
		{"tcp4", "0.0.0.0:0", true, false, false},
		{"tcp", "[::]:0", true, true, false},
		{"tcp6", "[::]:0", false, true, true},
		{"tcp6", "[::1]:0", false, true, true},
	} {
		l := listen(t, test.network, test.listens)
		port := addrPort(l.Addr()).Port()
		for _, client := range []struct {
			addr    netip.Addr
			reaches bool
		}{
			{netip.MustParseAddr("127.0.0.1"), test.four}, {netip.IPv6Loopback(), test.six},
		} {
			at, err := sockets.ListenersAt(netip.AddrPortFrom(client.addr, port))
			proof.Must(t, err)
			one, err := sockets.ListenerAt(netip.AddrPortFrom(client.addr, port))
			if (err == nil) != client.reaches || err == nil && one.Inode != at[0].Inode {
				t.Errorf("%s on %s: from %v, %+v, %v", test.listens, test.network, client.addr, one, err)
			}
			if (len(at) == 1) != client.reaches || client.reaches && at[0].OnlyIPv6 != test.only6 {
				t.Errorf("%s on %s: from %v, %+v", test.listens, test.network, client.addr, at)
			}
		}
		proof.Must(t, l.Close())
	}
}
