//go:build linux

package demo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"lesson/internal/observe/sockets"
)

var ports = Demo{
	Name:    "ports",
	Title:   "ephemeral ports run out, and the side that closes first keeps them",
	Chapter: "docs/08-when-the-machine-runs-out.md",
	Run:     runPorts,
}

// PortsSeen is what lesson demo ports has seen.
type PortsSeen struct {
	// The range of this network namespace, and the narrow one that the clients
	// of the demo were given: first and last port.
	Range  [2]int `json:"range"`
	Narrow [2]int `json:"narrow"`
	// Reuse is net.ipv4.tcp_tw_reuse: 2 lets a port in TIME_WAIT be used again
	// after a second, on loopback only; 1 anywhere; 0 nowhere.
	Reuse  int         `json:"tw_reuse"`
	Trials []PortTrial `json:"trials"`
	// Rebind is what bind says to the next server on a port whose connections
	// are in TIME_WAIT, without SO_REUSEADDR and with it; "" is no error.
	Rebind       string `json:"rebind"`
	RebindReused string `json:"rebind_reuseaddr"`
}

// A PortTrial is as many connections to one address as the narrow range allows.
type PortTrial struct {
	Called string `json:"called"`
	// Connected is how many, and Error what connect said to the next one.
	Connected int    `json:"connected"`
	Error     string `json:"error"`
	// TIME_WAIT before, on the clients' side and on the server's.
	ClientWaits int `json:"client_time_wait"`
	ServerWaits int `json:"server_time_wait"`
}

// narrow is how many ports the clients may use. Of the machine's ports, the demo
// holds no more than these.
const narrow = 8

func runPorts(ctx context.Context, o Options) (*Result, error) {
	const tries = 5
	var err error
	for range tries {
		var seen *PortsSeen
		if seen, err = usePorts(ctx, o); err == nil {
			return seen.result(), nil
		}
		if !errors.Is(err, errTooSlow) {
			break
		}
	}
	return nil, err
}

// errTooSlow says that a second has gone by before the ports could be asked for
// again: tcp_tw_reuse may have freed them.
var errTooSlow = errors.New("the machine is too busy to ask again within a second; try later")

func usePorts(ctx context.Context, o Options) (*PortsSeen, error) {
	seen := &PortsSeen{}
	var err error
	if seen.Range, seen.Reuse, err = portSettings(); err != nil {
		return nil, err
	}
	p := &portUser{ctx: ctx}
	defer p.close()
	if err := p.choose(seen.Range); err != nil {
		return nil, err
	}
	seen.Narrow = [2]int{int(p.low), int(p.low) + narrow - 1}
	o.say("connections from ports %d to %d, until there is none left", seen.Narrow[0], seen.Narrow[1])
	return seen, p.try(seen)
}

func portSettings() (portRange [2]int, reuse int, err error) {
	const folder = "/proc/sys/net/ipv4/"
	for file, fields := range map[string][]any{
		"ip_local_port_range": {&portRange[0], &portRange[1]},
		"tcp_tw_reuse":        {&reuse},
	} {
		text, err := os.ReadFile(folder + file)
		if err != nil {
			return portRange, 0, err
		}
		if _, err := fmt.Sscan(string(text), fields...); err != nil {
			return portRange, 0, fmt.Errorf("%s: %w", folder+file, err)
		}
	}
	return portRange, reuse, nil
}

// A portUser connects from a narrow range of ports.
type portUser struct {
	ctx   context.Context
	low   uint16 // its first
	peers []*peer
}

// A peer is a server's address, and both ends of the connections to it, in the
// same order.
type peer struct {
	listener int
	addr     netip.AddrPort
	clients  []int
	servers  []int
}

// listen makes a peer. Without SO_REUSEADDR, its connections would later keep the
// port from a server that does set it.
func (p *portUser) listen() (*peer, error) {
	fd, err := newSocket()
	if err != nil {
		return nil, err
	}
	q := &peer{listener: fd}
	p.peers = append(p.peers, q)
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return nil, fmt.Errorf("setsockopt SO_REUSEADDR: %w", err)
	}
	q.addr, err = listenOn(fd, narrow)
	return q, err
}

// close ends every peer.
func (p *portUser) close() {
	for _, q := range p.peers {
		p.reset(q)
		closeAll(q.listener)
	}
}

// reset ends the connections to a peer in such a way that none stays in TIME_WAIT.
func (p *portUser) reset(q *peer) {
	for _, fd := range q.clients {
		now := &unix.Linger{Onoff: 1}
		_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, now) // else it waits
		closeAll(fd)
	}
	closeAll(q.servers...)
	q.clients, q.servers = nil, nil
}

// choose looks for a narrow range from whose ports a scratch server can be reached: no
// socket listens on them or is bound to them. A port with a connection in TIME_WAIT to
// another server will do. The search begins anywhere, because other programs may be
// looking as well.
func (p *portUser) choose(all [2]int) error {
	scratch := &portUser{ctx: p.ctx}
	defer scratch.close()
	q, err := scratch.listen()
	if err != nil {
		return err
	}
	for _, n := range rand.Perm((all[1] - all[0] + 1) / narrow) {
		scratch.low = uint16(all[0] + n*narrow)
		trial, err := scratch.fill(q, "")
		if err != nil {
			return err
		}
		scratch.reset(q)
		if trial.Connected == narrow {
			p.low = scratch.low
			return nil
		}
	}
	return fmt.Errorf("no %d ports that follow each other are free", narrow)
}

// connect connects from a port of the narrow range. The kernel chooses which one,
// as it does for every client that does not call bind.
func (p *portUser) connect(to netip.AddrPort) (int, error) {
	fd, err := newSocket()
	if err != nil {
		return -1, err
	}
	bounds := int(p.low) | (int(p.low)+narrow-1)<<16
	err = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_LOCAL_PORT_RANGE, bounds)
	if err == unix.ENOPROTOOPT {
		err = errors.New("this kernel does not know IP_LOCAL_PORT_RANGE; Linux 6.3 and later do")
	}
	if err == nil {
		err = startConnecting(fd, to)
	}
	if err != nil {
		closeAll(fd)
		return -1, err
	}
	return fd, nil
}

// fill connects until connect fails, once more than there are ports at the most.
func (p *portUser) fill(q *peer, called string) (PortTrial, error) {
	trial := PortTrial{Called: called}
	var err error
	if trial.ClientWaits, trial.ServerWaits, err = p.waits(q); err != nil {
		return trial, err
	}
	for range narrow + 1 {
		fd, err := p.connect(q.addr)
		var errno unix.Errno
		if errors.As(err, &errno) {
			trial.Error = unix.ErrnoName(errno)
			return trial, nil
		}
		if err != nil {
			return trial, err
		}
		q.clients = append(q.clients, fd)
		trial.Connected++
		if err := p.accept(q); err != nil {
			return trial, err
		}
	}
	return trial, nil
}

func (p *portUser) accept(q *peer) error {
	return until(p.ctx, portPatience, func() (bool, error) {
		fd, _, err := unix.Accept4(q.listener, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
		if err == unix.EAGAIN {
			return false, nil
		}
		if err != nil {
			return false, fmt.Errorf("accept4: %w", err)
		}
		q.servers = append(q.servers, fd)
		return true, nil
	})
}

// portPatience bounds what takes no time on loopback.
const portPatience = 5 * time.Second

// hangUp closes all connections of a peer: first the ends that are given, then,
// when they have read end of file, the others. It returns when the former are in TIME_WAIT.
func (p *portUser) hangUp(q *peer, first, then []int) error {
	q.clients, q.servers = nil, nil
	closeAll(first...)
	err := p.readEnds(then)
	closeAll(then...)
	if err != nil {
		return err
	}
	return until(p.ctx, portPatience, func() (bool, error) {
		client, server, err := p.waits(q)
		return client+server >= len(first), err
	})
}

// readEnds waits until end of file has arrived at all of these.
func (p *portUser) readEnds(then []int) error {
	for _, fd := range then {
		err := until(p.ctx, portPatience, func() (bool, error) {
			n, err := unix.Read(fd, make([]byte, 1))
			if err == unix.EAGAIN {
				return false, nil
			}
			return n == 0, err
		})
		if err != nil {
			return fmt.Errorf("read: %w", err)
		}
	}
	return nil
}

// waits counts what is in TIME_WAIT on each side of the connections to a peer.
func (p *portUser) waits(q *peer) (client, server int, err error) {
	all, err := sockets.InState(0, sockets.TimeWait)
	if err != nil {
		return 0, 0, err
	}
	ours := func(a netip.AddrPort) bool { return a.Port() >= p.low && a.Port() < p.low+narrow }
	for _, s := range all {
		switch {
		case s.Remote == q.addr && ours(s.Local):
			client++
		case s.Local == q.addr && ours(s.Remote):
			server++
		}
	}
	return client, server, nil
}

// tcp_tw_reuse asks for a second: since Linux 6.14 to the millisecond
// (net.ipv4.tcp_tw_reuse_delay), before by a clock of whole seconds.
const (
	reuseAtLeast = 900 * time.Millisecond
	reuseDelay   = 1200 * time.Millisecond
)

// try plays it all. What each trial is about is in its name.
func (p *portUser) try(seen *PortsSeen) error {
	one, err := p.listen()
	if err != nil {
		return err
	}
	other, err := p.listen()
	if err != nil {
		return err
	}
	fill := func(q *peer, called string) error {
		trial, err := p.fill(q, called)
		seen.Trials = append(seen.Trials, trial)
		return err
	}

	if err := fill(one, "to one server"); err != nil {
		return err
	}
	if err := fill(other, "meanwhile, to another of its ports"); err != nil {
		return err
	}
	if err := p.hangUp(other, other.servers, other.clients); err != nil {
		return err
	}
	if err := fill(other, "there again (server closed first)"); err != nil {
		return err
	}
	closed := time.Now()
	if err := p.hangUp(one, one.clients, one.servers); err != nil {
		return err
	}
	if err := fill(one, "the first port (clients closed first)"); err != nil {
		return err
	}
	if seen.Reuse != 0 && time.Since(closed) > reuseAtLeast {
		return errTooSlow
	}
	if err := pause(p.ctx, reuseDelay); err != nil {
		return err
	}
	if err := fill(one, fmt.Sprintf("the same, %.1f s later", reuseDelay.Seconds())); err != nil {
		return err
	}
	if err := p.hangUp(other, other.servers, other.clients); err != nil {
		return err
	}
	seen.Rebind, seen.RebindReused, err = rebind(other)
	return err
}

// rebind ends the listener of a peer whose connections are in TIME_WAIT, and tries
// to have its port again: without SO_REUSEADDR, and with it.
func rebind(q *peer) (without, with string, err error) {
	closeAll(q.listener)
	q.listener = -1
	var said [2]string
	for reuse := range said {
		fd, err := newSocket()
		if err != nil {
			return "", "", err
		}
		defer closeAll(fd)
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, reuse); err != nil {
			return "", "", fmt.Errorf("setsockopt SO_REUSEADDR: %w", err)
		}
		var errno unix.Errno
		if errors.As(unix.Bind(fd, sockaddr(q.addr)), &errno) {
			said[reuse] = unix.ErrnoName(errno)
		}
	}
	return said[0], said[1], nil
}

func (s *PortsSeen) result() *Result {
	t := Table{
		Title: fmt.Sprintf("Connections from %d ports, %d to %d, to 127.0.0.1", narrow,
			s.Narrow[0], s.Narrow[1]),
		Head: []string{"", "clients in TIME_WAIT", "server", "made", "then connect fails"},
	}
	for _, trial := range s.Trials {
		t.Rows = append(t.Rows, []string{
			trial.Called, fmt.Sprint(trial.ClientWaits), fmt.Sprint(trial.ServerWaits),
			fmt.Sprint(trial.Connected), cmp.Or(trial.Error, "–"),
		})
	}
	r := &Result{Demo: "ports", Tables: []Table{t}, Data: s}
	all := s.Range[1] - s.Range[0] + 1
	first := fmt.Sprintf("In this network namespace, clients that do not ask for a port get one from"+
		" %d to %d: %d ports.", s.Range[0], s.Range[1], all)
	if len(s.Trials) > 1 && s.Trials[1].Connected > 0 {
		first += " A port is in use for one destination only: ports in use here" +
			" were free for another port of the server."
	}
	r.Sentences = append(r.Sentences, first)
	for _, trial := range s.Trials {
		if trial.ClientWaits > 0 && trial.Connected == 0 {
			r.Sentences = append(r.Sentences, fmt.Sprintf("The side that closes first keeps the"+
				" connection in TIME_WAIT for 60 s. When the clients closed first, their ports stayed in"+
				" use although no connection was open. %d ports in 60 s are %d connections a second from"+
				" one client to one server.", all, all/60))
			break
		}
	}
	if last := s.Trials[len(s.Trials)-1]; last.Connected > 0 {
		r.Sentences = append(r.Sentences, fmt.Sprintf("A second later these ports were free again:"+
			" net.ipv4.tcp_tw_reuse is %d here, %s.", s.Reuse, reuseWords[s.Reuse]))
	}
	r.Sentences = append(r.Sentences, fmt.Sprintf("When the server closes first, connections on"+
		" its own port stay in TIME_WAIT: without SO_REUSEADDR, the next server's bind %s; with it, bind %s.",
		ended(s.Rebind), ended(s.RebindReused)))
	return r
}

// ended returns how a call ended, from the name of its error.
func ended(err string) string {
	if err == "" {
		return "succeeds"
	}
	return "fails with " + err
}

// reuseWords is what net.ipv4.tcp_tw_reuse means: Documentation/networking/ip-sysctl.rst.
var reuseWords = map[int]string{
	0: "so no port is used again before the 60 s are over",
	1: "so a client may use a port again after a second",
	2: "so a client may use a port again after a second, on loopback only",
}
