//go:build linux

package simulated

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"lesson/internal/words"
)

// A Client is the other end of a connection. Its acts take effect at once, as they
// do on loopback.
type Client struct {
	Name string

	kernel  *Kernel
	number  int     // of the clients of the kernel, from 0
	conn    *socket // nil until the listener has taken it
	unread  []byte  // arrived, and not read by the client
	end     bool    // the server's FIN has arrived
	reset   bool    // a reset has arrived
	err     unix.Errno
	gone    bool // closed
	endSent bool
	refused bool
	retried bool
	sent    int
}

// retry is how long a client's kernel waits before it sends a SYN again that found
// the accept queue full, doubled each time: tcp(7), tcp_syn_retries.
const retry = time.Second

// Connect connects a new client to the listener of that port. If the accept queue is
// full, the client's kernel tries again later, on virtual time.
func (k *Kernel) Connect(name string, port uint16) *Client {
	c := &Client{Name: name, kernel: k, number: len(k.clients)}
	k.clients = append(k.clients, c)
	c.connect(port, retry)
	return c
}

func (c *Client) connect(port uint16, again time.Duration) {
	l := c.kernel.listener(port)
	switch {
	case c.gone:
	case l == nil:
		c.refused = true
		c.kernel.changed++
	case !l.connect(c):
		c.retried = true
		c.kernel.after(again, c, func() { c.connect(port, 2*again) })
	}
}

// Number returns how many clients of the kernel had connected before.
func (c *Client) Number() int { return c.number }

// EndedIn returns the step in which the server sent its end, 0 if it has not.
func (c *Client) EndedIn() int {
	if c.conn == nil {
		return 0
	}
	return c.conn.endedIn
}

// WhyReset explains why the server's kernel has sent a reset, without text if it cannot.
func (c *Client) WhyReset() words.Sentence {
	switch s := c.conn; {
	case s == nil || s.closedIn == 0:
		return words.Sentence{}
	case s.dropped > 0:
		return words.Say(": the server closes in step %d, while %d bytes of this client are unread",
			s.closedIn, s.dropped)
	default:
		return words.Say(": the server has closed in step %d, and %s sends more after that",
			s.closedIn, c.Name)
	}
}

// Connected reports whether the connection is established, which it may be before the
// server has accepted it.
func (c *Client) Connected() bool { return c.conn != nil }

// Refused reports whether nothing listened where it connected.
func (c *Client) Refused() bool { return c.refused }

// Descriptor returns the server's descriptor of the connection: -1 before accept, and
// after close.
func (c *Client) Descriptor() int {
	if c.conn == nil || c.conn.file == nil {
		return -1
	}
	return c.kernel.number(c.conn.file)
}

// Reused says whose descriptor the number of the connection was before: a server that has kept
// something under that number takes one client for the other.
func (c *Client) Reused() words.Sentence {
	if c.conn == nil || c.conn.before.client == nil {
		return words.Sentence{}
	}
	before := c.conn.before
	return words.Say(" (%d was the descriptor of %s until step %d)", c.conn.number, before.client.Name, before.closed)
}

// Retried reports whether the accept queue was full when it connected.
func (c *Client) Retried() bool { return c.retried }

// Send sends all of p.
func (c *Client) Send(p []byte) error {
	if err := c.usable(); err != nil {
		return err
	}
	c.sent++
	c.conn.receive(p, words.Say("segment %d of %s", c.sent, c.Name))
	return nil
}

// HalfClose sends a FIN; the client can still receive.
func (c *Client) HalfClose() error {
	switch {
	case c.conn == nil || c.gone:
		return errNotConnected
	case c.reset || c.endSent && c.end:
		return unix.ENOTCONN
	}
	c.sendEnd()
	return nil
}

func (c *Client) sendEnd() {
	if !c.endSent {
		c.endSent = true
		c.conn.receiveEnd(words.Say("the end of %s", c.Name))
	}
}

// Close closes the client's end: with a FIN, or with a reset if it has unread bytes.
func (c *Client) Close() {
	if c.gone || c.conn == nil {
		c.gone = true
		return
	}
	if len(c.unread) > 0 {
		c.Reset()
		return
	}
	c.gone = true
	if !c.reset {
		c.sendEnd()
		if len(c.conn.unsent) > 0 {
			c.conn.flush()
		}
	}
}

// Reset closes the client's end with a reset.
func (c *Client) Reset() {
	c.gone = true
	c.unread = nil
	if c.conn != nil && !c.reset {
		c.conn.receiveReset(words.Say("a reset of %s", c.Name))
	}
}

// Read takes up to n bytes that have arrived. ended reports that nothing will follow:
// end of file, or unix.ECONNRESET as err.
func (c *Client) Read(n int) (p []byte, ended bool, err error) {
	p = c.unread[:min(n, len(c.unread))]
	c.unread = c.unread[len(p):]
	if len(p) > 0 {
		c.conn.flush()
		return p, false, nil
	}
	switch {
	case c.end: // comes first, as in tcp_recvmsg_locked
		return nil, true, nil
	case c.reset:
		return nil, true, fails(c.takeErr())
	}
	return nil, false, nil
}

// Arrived reports whether bytes of the server have arrived that the client has not read.
func (c *Client) Arrived() bool { return len(c.unread) > 0 }

// Ended reports whether the server's end of file or a reset has arrived.
func (c *Client) Ended() bool { return c.end || c.reset }

// Readable reports whether Read would return something.
func (c *Client) Readable() bool { return len(c.unread) > 0 || c.end || c.reset }

var errNotConnected = errors.New("not connected")

func (c *Client) usable() error {
	switch {
	case c.conn == nil || c.gone:
		return errNotConnected
	case c.err != 0:
		return c.takeErr()
	case c.reset || c.endSent:
		return unix.EPIPE
	}
	return nil
}

// receiveReset takes a reset of the server's kernel. What has arrived stays readable.
func (c *Client) receiveReset() {
	c.reset, c.err = true, unix.ECONNRESET
	if c.end {
		c.err = unix.EPIPE
	}
	c.kernel.changed++
}

func (c *Client) takeErr() unix.Errno {
	err := c.err
	c.err = 0
	return err
}

// room returns how many bytes the client's receive buffer takes now.
func (c *Client) room() int {
	if c.gone || c.reset {
		return c.kernel.options.ClientBuffer
	}
	return max(0, c.kernel.options.ClientBuffer-len(c.unread))
}
