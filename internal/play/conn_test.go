//go:build linux

package play_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lesson/internal/play"
	"lesson/internal/proof"
)

const patience = 10 * time.Second

// listen makes a listener of package net, closed when the test ends.
func listen(t *testing.T) (*net.TCPListener, netip.AddrPort) {
	t.Helper()
	l, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
	proof.Must(t, err)
	t.Cleanup(func() { _ = l.Close() })
	return l, l.Addr().(*net.TCPAddr).AddrPort()
}

// connected is a client and the server's end of its connection.
func connected(t *testing.T) (*play.Conn, *net.TCPConn) {
	t.Helper()
	l, addr := listen(t)
	c, err := play.Dial(addr)
	proof.Must(t, err)
	t.Cleanup(func() { _ = c.Close() })
	conn, err := l.AcceptTCP()
	proof.Must(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	proof.Must(t, conn.SetDeadline(time.Now().Add(patience)))
	return c, conn
}

func TestReadingTellsTheThreeEndsApart(t *testing.T) {
	write := func(t *testing.T, conn *net.TCPConn) {
		_, err := conn.Write([]byte("some"))
		proof.Must(t, err)
	}
	ends := []struct {
		name   string
		server func(*testing.T, *net.TCPConn)
		within time.Duration
		want   error
	}{
		{"end of file", func(t *testing.T, conn *net.TCPConn) {
			write(t, conn)
			proof.Must(t, conn.Close())
		}, patience, nil},
		{"reset", func(t *testing.T, conn *net.TCPConn) {
			write(t, conn)
			proof.Must(t, conn.SetLinger(0))
			proof.Must(t, conn.Close())
		}, patience, play.ErrReset},
		{"timeout", write, 50 * time.Millisecond, play.ErrTimeout},
	}
	ways := []struct {
		name string
		read func(*play.Conn, time.Duration) ([]byte, error)
	}{
		{"ReadAll", (*play.Conn).ReadAll},
		{"ReadSlowly", func(c *play.Conn, within time.Duration) ([]byte, error) {
			return c.ReadSlowly(within, time.Microsecond)
		}},
		{"Read", func(c *play.Conn, within time.Duration) ([]byte, error) {
			p, err := c.Read(5, within)
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return p, err
		}},
	}
	for _, end := range ends {
		for _, way := range ways {
			t.Run(end.name+"/"+way.name, func(t *testing.T) {
				got, err := readAfter(t, end.server, way.read, end.within)
				// A program that does not run for that long has no time to read.
				for within := end.within; string(got) != "some" && within < patience; {
					within *= 2
					got, err = readAfter(t, end.server, way.read, within)
				}
				if !errors.Is(err, end.want) {
					t.Errorf("ended with %v, want %v", err, end.want)
				}
				if string(got) != "some" {
					t.Errorf("read %q, want %q", got, "some")
				}
			})
		}
	}
}

// readAfter reads from a connection with which the server has done something.
func readAfter(
	t *testing.T, server func(*testing.T, *net.TCPConn),
	read func(*play.Conn, time.Duration) ([]byte, error), within time.Duration,
) ([]byte, error) {
	t.Helper()
	c, conn := connected(t)
	server(t, conn)
	return read(c, within)
}

func TestReadTakesNoMoreThanItIsAskedFor(t *testing.T) {
	c, conn := connected(t)
	_, err := conn.Write([]byte("some"))
	proof.Must(t, err)
	for _, want := range []string{"so", "m"} {
		if got, err := c.Read(len(want), patience); string(got) != want || err != nil {
			t.Errorf("read %q, %v, want %q", got, err, want)
		}
	}
}

func TestReadAllIsBounded(t *testing.T) {
	c, conn := connected(t)
	go func() { _, _ = conn.Write(make([]byte, 2*play.MaxAnswer)) }() // ends when c closes
	got, err := c.ReadAll(patience)
	if !errors.Is(err, play.ErrTooMuch) {
		t.Errorf("read %d bytes, then %v, want %v", len(got), err, play.ErrTooMuch)
	}
}

func TestEachPieceIsASegmentOfItsOwn(t *testing.T) {
	c, conn := connected(t)
	arrived := make(chan string)
	read := make(chan struct{})
	go func() {
		buffer := make([]byte, 100)
		for {
			n, err := conn.Read(buffer)
			if err != nil {
				close(arrived)
				return
			}
			arrived <- string(buffer[:n])
			read <- struct{}{}
		}
	}()
	var got []string
	next := func() {
		got = append(got, <-arrived)
		<-read
	}
	proof.Must(t, c.SendSlowly(play.Cut([]byte("request"), 1, 3, 6), next))
	next()
	proof.Must(t, c.HalfClose())
	if _, more := <-arrived; more {
		t.Error("after the half-close, more came than was sent")
	}
	want := []string{"r", "eq", "ues", "t"}
	if len(got) != len(want) {
		t.Fatalf("arrived as %q, want %q", got, want)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("arrived as %q, want %q", got, want)
		}
	}
}

func TestCutLosesNothing(t *testing.T) {
	p := []byte("request")
	for _, offsets := range [][]int{nil, {0}, {7}, {3}, {1, 2, 3, 4, 5, 6}, {2, 2}} {
		pieces := play.Cut(p, offsets...)
		if len(pieces) != len(offsets)+1 || !bytes.Equal(bytes.Join(pieces, nil), p) {
			t.Errorf("cut at %v: %q", offsets, pieces)
		}
	}
}

func TestHalfCloseLeavesTheOtherDirectionOpen(t *testing.T) {
	c, conn := connected(t)
	proof.Must(t, c.Send([]byte("question")))
	proof.Must(t, c.HalfClose())
	if got, err := io.ReadAll(conn); string(got) != "question" || err != nil {
		t.Errorf("the server read %q, %v", got, err)
	}
	_, err := conn.Write([]byte("answer"))
	proof.Must(t, err)
	proof.Must(t, conn.Close())
	if got, err := c.ReadAll(patience); string(got) != "answer" || err != nil {
		t.Errorf("the client read %q, %v", got, err)
	}
}

func TestResetIsOneForTheServer(t *testing.T) {
	c, conn := connected(t)
	proof.Must(t, c.Reset())
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("the server read %v, want %v", err, unix.ECONNRESET)
	}
}

func TestCloseIsEndOfFileForTheServer(t *testing.T) {
	c, conn := connected(t)
	proof.Must(t, c.Close())
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the server read %v, want %v", err, io.EOF)
	}
}

func TestSendingIntoAResetIsOne(t *testing.T) {
	c, conn := connected(t)
	proof.Must(t, conn.SetLinger(0))
	proof.Must(t, conn.Close())
	var err error
	proof.Eventually(t, "the reset", func() bool { // it may come after the first few
		err = c.Send([]byte("is it there?"))
		return err != nil
	})
	if !errors.Is(err, play.ErrReset) {
		t.Errorf("sending ended with %v, want %v", err, play.ErrReset)
	}
}

func TestASmallReceiveBufferHoldsTheServerBack(t *testing.T) {
	l, addr := listen(t)
	c, err := play.DialSmall(addr)
	proof.Must(t, err)
	defer c.Close()
	conn, err := l.AcceptTCP()
	proof.Must(t, err)
	defer conn.Close()
	// The sender's buffer is bounded too, or it would take everything.
	proof.Must(t, conn.SetWriteBuffer(4096))
	proof.Must(t, conn.SetWriteDeadline(time.Now().Add(100*time.Millisecond)))
	sent, err := conn.Write(make([]byte, 1<<20))
	if err == nil {
		t.Errorf("the server sent %d bytes that were not read", sent)
	}
}

func TestAddressesAreThoseOfTheConnection(t *testing.T) {
	c, conn := connected(t)
	if got := conn.RemoteAddr().(*net.TCPAddr).AddrPort(); got != c.LocalAddr() {
		t.Errorf("LocalAddr is %v, the server sees %v", c.LocalAddr(), got)
	}
	if got := conn.LocalAddr().(*net.TCPAddr).AddrPort(); got != c.RemoteAddr() {
		t.Errorf("RemoteAddr is %v, the server has %v", c.RemoteAddr(), got)
	}
}

func TestDialSaysWhenNobodyListens(t *testing.T) {
	if _, err := play.Dial(proof.NoServer(t)); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("dial: %v, want %v", err, unix.ECONNREFUSED)
	}
}

func TestSomeIsWhatThereIs(t *testing.T) {
	c, conn := connected(t)
	if _, err := c.Some(10, time.Millisecond); !errors.Is(err, play.ErrTimeout) {
		t.Errorf("with nothing there: %v", err)
	}
	_, err := conn.Write([]byte("some bytes"))
	proof.Must(t, err)
	proof.Must(t, conn.Close())
	for _, want := range []string{"some", " byt", "es"} {
		got, err := c.Some(4, patience)
		proof.Must(t, err)
		if string(got) != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if _, err := c.Some(4, patience); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
}
