//go:build linux

// Package sockets asks the kernel about TCP sockets of any process in this
// network namespace: sock_diag(7), which ss(8) is built on. It needs no
// privilege.
//
// It answers what a client cannot see from its own end: whether the server has accepted
// this connection, how many bytes it has not read yet, how full its accept queue is.
package sockets

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// A State is a state of TCP, numbered as in the kernel's net/tcp_states.h.
type State uint8

// The states that are asked for here.
const (
	Established State = 1
	FinWait2    State = 5
	TimeWait    State = 6
	CloseWait   State = 8
	Listen      State = 10
)

var stateNames = [...]string{
	"?", "ESTABLISHED", "SYN_SENT", "SYN_RECV", "FIN_WAIT1", "FIN_WAIT2", "TIME_WAIT", "CLOSE",
	"CLOSE_WAIT", "LAST_ACK", "LISTEN", "CLOSING", "NEW_SYN_RECV",
}

func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return fmt.Sprintf("state %d", uint8(s))
}

// A Socket is one socket: a listener, or one end of a connection.
type Socket struct {
	State         State
	Local, Remote netip.AddrPort
	// Unread is the bytes in the receive buffer; of a listener, the
	// connections in its accept queue.
	Unread uint32
	// Unsent is the bytes in the send buffer that the peer has not
	// acknowledged; of a listener, its backlog.
	Unsent uint32
	// Inode names the socket, as in the links of /proc/PID/fd. It is 0 while
	// the connection waits in the accept queue, and when its process has
	// closed it: no process has a descriptor for it.
	Inode uint32
	// OnlyIPv6 is set for a listener of IPv6 that does not serve IPv4: IPV6_V6ONLY.
	OnlyIPv6 bool
}

// ErrNone reports that there is no such socket (any more).
var ErrNone = errors.New("the kernel knows no such socket")

// Connection returns the end of a connection that has that local address.
// ErrNone when there is none in this network namespace.
func Connection(local, remote netip.AddrPort) (Socket, error) {
	sockets, err := ask(request(local, remote, 0))
	if errors.Is(err, unix.ENOENT) {
		return Socket{}, ErrNone
	}
	if err != nil {
		return Socket{}, err
	}
	// The kernel falls back on the listener when there is no connection.
	if len(sockets) != 1 || sockets[0].State == Listen {
		return Socket{}, ErrNone
	}
	return sockets[0], nil
}

// ListenerAt returns the listener that a client of this address reaches. It takes the kernel
// one look. ErrNone when there is none.
func ListenerAt(addr netip.AddrPort) (Socket, error) {
	anybody := netip.AddrPortFrom(netip.IPv4Unspecified(), 0)
	if addr.Addr().Is6() {
		anybody = netip.AddrPortFrom(netip.IPv6Unspecified(), 0)
	}
	sockets, err := ask(request(addr, anybody, 0))
	if errors.Is(err, unix.ENOENT) {
		return Socket{}, ErrNone
	}
	if err != nil {
		return Socket{}, err
	}
	if len(sockets) != 1 || sockets[0].State != Listen {
		return Socket{}, ErrNone
	}
	return sockets[0], nil
}

// Listeners returns all listeners on this port; 0 is every port.
func Listeners(port uint16) ([]Socket, error) { return all(port, 1<<Listen) }

// ListenersAt returns the listeners that a client of this address reaches: more than one
// with SO_REUSEPORT.
func ListenersAt(addr netip.AddrPort) ([]Socket, error) {
	listeners, err := Listeners(addr.Port())
	return slices.DeleteFunc(listeners, func(l Socket) bool { return !l.reachedBy(addr.Addr()) }), err
}

// reachedBy reports whether a client of this address reaches the listener.
func (s Socket) reachedBy(addr netip.Addr) bool {
	local := s.Local.Addr()
	if !local.IsUnspecified() {
		return local == addr
	}
	return local.Is4() == addr.Is4() || local.Is6() && !s.OnlyIPv6
}

// InState returns all connections on this local port in that state.
func InState(port uint16, state State) ([]Socket, error) { return all(port, 1<<state) }

// Open returns all listeners and connections on this local port; 0 is every port. Those
// in TIME_WAIT, which no process has any more, are left out.
func Open(port uint16) ([]Socket, error) { return all(port, open) }

// OpenAt returns what Open returns, for several local ports at once. The kernel goes
// through every socket of the machine, which takes it 30 ms where 100,000 are in TIME_WAIT.
func OpenAt(ports ...uint16) ([]Socket, error) {
	var found []Socket
	for _, wild := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
		anything := netip.AddrPortFrom(wild, 0)
		sockets, err := ask(request(anything, anything, open, ports...))
		if errors.Is(err, unix.EINVAL) { // a kernel before 5.8 does not compare ports for equality
			sockets, err = ask(request(anything, anything, open))
		}
		if err != nil {
			return nil, err
		}
		for _, s := range sockets {
			if slices.Contains(ports, s.Local.Port()) {
				found = append(found, s)
			}
		}
	}
	return found, nil
}

const open = 0xfff &^ (1 << TimeWait)

// all looks in both families: a listener for IPv6 serves IPv4 as well.
func all(port uint16, states uint32) ([]Socket, error) {
	return in(port, states, netip.IPv4Unspecified(), netip.IPv6Unspecified())
}

// in looks in the families of these addresses.
func in(port uint16, states uint32, families ...netip.Addr) ([]Socket, error) {
	var found []Socket
	for _, wild := range families {
		addr := netip.AddrPortFrom(wild, port)
		sockets, err := ask(request(addr, netip.AddrPortFrom(wild, 0), states))
		if err != nil {
			return nil, err
		}
		for _, s := range sockets {
			if port == 0 || s.Local.Port() == port { // the kernel filters, where it can
				found = append(found, s)
			}
		}
	}
	return found, nil
}

// Sizes and offsets of the messages of linux/inet_diag.h. Numbers of the
// protocol are in the processor's byte order; ports and addresses in the
// network's.
const (
	requestSize   = 56 // struct inet_diag_req_v2
	messageSize   = 72 // struct inet_diag_msg
	byFamily      = 20 // SOCK_DIAG_BY_FAMILY
	idOfRequest   = 8  // where struct inet_diag_sockid begins
	idOfMessage   = 4
	receiveBuffer = 64 << 10
	onlyIPv6      = 11 // INET_DIAG_SKV6ONLY, an attribute after the message
)

// ask sends one request, and returns what is answered.
func ask(request []byte) ([]Socket, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return nil, fmt.Errorf("sock_diag: %w", err)
	}
	defer unix.Close(fd)
	if err := unix.Sendto(fd, request, 0, &unix.SockaddrNetlink{
		Family: unix.AF_NETLINK,
	}); err != nil {
		return nil, fmt.Errorf("sock_diag: %w", err)
	}

	var found []Socket
	buffer := make([]byte, receiveBuffer)
	for {
		n, _, err := unix.Recvfrom(fd, buffer, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("sock_diag: %w", err)
		}
		sockets, more, err := messages(buffer[:n])
		if err != nil {
			return nil, fmt.Errorf("sock_diag: %w", err)
		}
		found = append(found, sockets...)
		if !more {
			return found, nil
		}
	}
}

// request returns a request for one connection when states is 0, and otherwise for all
// sockets in these states (a bit each) that have one of these local ports, if any are given.
func request(local, remote netip.AddrPort, states uint32, ports ...uint16) []byte {
	const about = unix.NLMSG_HDRLEN + requestSize
	p := append(make([]byte, about), portFilter(ports)...)
	flags := unix.NLM_F_REQUEST
	if states != 0 {
		flags |= unix.NLM_F_DUMP
	}
	native := binary.NativeEndian
	native.PutUint32(p[0:], uint32(len(p)))
	native.PutUint16(p[4:], byFamily)
	native.PutUint16(p[6:], uint16(flags))

	body := p[unix.NLMSG_HDRLEN:]
	body[0] = unix.AF_INET6
	if local.Addr().Unmap().Is4() {
		body[0] = unix.AF_INET
	}
	body[1] = unix.IPPROTO_TCP
	native.PutUint32(body[4:], states)
	id := body[idOfRequest:]
	binary.BigEndian.PutUint16(id[0:], local.Port())
	binary.BigEndian.PutUint16(id[2:], remote.Port())
	copy(id[4:20], local.Addr().Unmap().AsSlice())
	copy(id[20:36], remote.Addr().Unmap().AsSlice())
	for i := 40; i < 48; i++ {
		id[i] = 0xff // INET_DIAG_NOCOOKIE: whichever socket has these addresses
	}
	return p
}

// portFilter returns the attribute by which the kernel leaves out the sockets of other
// local ports: a program of struct inet_diag_bc_op, each with a code and with how far it
// jumps if its condition holds, and if not. To arrive at the end is to be chosen.
func portFilter(ports []uint16) []byte {
	if len(ports) == 0 {
		return nil
	}
	const (
		byteCode = 1  // INET_DIAG_REQ_BYTECODE
		jump     = 1  // INET_DIAG_BC_JMP
		equal    = 11 // INET_DIAG_BC_S_EQ: two operations, of which the second has the port
		op       = 4  // bytes of one
		each     = 3 * op
	)
	native := binary.NativeEndian
	p := make([]byte, unix.SizeofNlAttr)
	put := func(code, yes uint8, no int) {
		p = native.AppendUint16(append(p, code, yes), uint16(no))
	}
	for i, port := range ports {
		rest := (len(ports) - i - 1) * each
		no := each
		if rest == 0 {
			no += op // beyond the end: not chosen
		}
		put(equal, 2*op, no)
		put(0, 0, int(port))
		put(jump, op, op+rest)
	}
	native.PutUint16(p[0:], uint16(len(p)))
	native.PutUint16(p[2:], byteCode)
	return p
}

// messages reads what one datagram holds, and reports whether more will follow.
func messages(p []byte) (found []Socket, more bool, err error) {
	native := binary.NativeEndian
	for len(p) >= unix.NLMSG_HDRLEN {
		size := int(native.Uint32(p[0:]))
		if size < unix.NLMSG_HDRLEN || size > len(p) {
			return nil, false, errors.New("a malformed message")
		}
		body := p[unix.NLMSG_HDRLEN:size]
		more = native.Uint16(p[6:])&unix.NLM_F_MULTI != 0
		switch native.Uint16(p[4:]) {
		case unix.NLMSG_DONE:
			return found, false, nil
		case unix.NLMSG_ERROR:
			if len(body) < 4 {
				return nil, false, errors.New("a malformed error")
			}
			return nil, false, unix.Errno(-int32(native.Uint32(body)))
		case byFamily:
			if len(body) < messageSize {
				return nil, false, errors.New("a malformed answer")
			}
			found = append(found, socket(body))
		}
		p = p[min(len(p), (size+unix.NLMSG_ALIGNTO-1)&^(unix.NLMSG_ALIGNTO-1)):]
	}
	return found, more, nil
}

func socket(body []byte) Socket {
	native := binary.NativeEndian
	id := body[idOfMessage:]
	address := func(at int) netip.Addr {
		if body[0] == unix.AF_INET {
			return netip.AddrFrom4([4]byte(id[at:]))
		}
		return netip.AddrFrom16([16]byte(id[at:])).Unmap()
	}
	return Socket{
		State:  State(body[1]),
		Local:  netip.AddrPortFrom(address(4), binary.BigEndian.Uint16(id[0:])),
		Remote: netip.AddrPortFrom(address(20), binary.BigEndian.Uint16(id[2:])),
		Unread: native.Uint32(body[56:]),
		Unsent: native.Uint32(body[60:]),
		Inode:  native.Uint32(body[68:]),

		OnlyIPv6: attribute(body[messageSize:], onlyIPv6) == 1,
	}
}

// attribute returns the first byte of an attribute, 0 when it is not there: netlink(7).
func attribute(p []byte, kind uint16) byte {
	native := binary.NativeEndian
	for len(p) > unix.SizeofNlAttr {
		size := int(native.Uint16(p[0:]))
		if native.Uint16(p[2:]) == kind && size > unix.SizeofNlAttr {
			return p[unix.SizeofNlAttr]
		}
		if size < unix.SizeofNlAttr {
			return 0 // malformed
		}
		p = p[min(len(p), (size+unix.NLA_ALIGNTO-1)&^(unix.NLA_ALIGNTO-1)):]
	}
	return 0
}
