//go:build linux

package tour

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"reflect"
	"slices"

	"lesson/internal/kernel"
	"lesson/internal/observe/proc"
	"lesson/internal/observe/sockets"
	"lesson/internal/observe/trace"
)

var self = os.Getpid()

// A kernelEvent is what the kernel says about a server.
type kernelEvent struct {
	header
	Server   string       `json:"server"`
	Listener *queue       `json:"listener"` // null without a listener
	Conns    []connection `json:"conns"`
	Interest []interest   `json:"interest"` // null without epoll
	Threads  int          `json:"threads"`  // -1 if that is not known
	Stands   *stance      `json:"stands"`   // null if every call is traced
	Verdicts []verdict    `json:"verdicts"`
}

// A stance is the call in which a program was blocked when the kernel was asked.
type stance struct {
	Call string `json:"call"` // "epoll_pwait"
	FD   int    `json:"fd"`   // its first argument
}

// A queue is the accept queue of a listener.
type queue struct {
	Queue   uint32 `json:"queue"`
	Backlog uint32 `json:"backlog"`
}

// A connection is the server's end of one.
type connection struct {
	Client   string `json:"client"` // "a"; "out1" for one from outside
	Peer     string `json:"peer"`
	FD       int    `json:"fd"` // -1 when it has none, or that is not known
	State    string `json:"state"`
	Unread   uint32 `json:"unread"` // bytes received that the server has not read
	Unsent   uint32 `json:"unsent"` // bytes sent that the client's kernel has not acknowledged
	Accepted bool   `json:"accepted"`
}

// An interest is an entry of an epoll interest list.
type interest struct {
	FD     int    `json:"fd"`
	Events string `json:"events"`
	Client string `json:"client"`
	What   string `json:"what"` // "listener", "connection" or ""
}

// shownConns bounds how many connections of a server are shown.
const shownConns = 64

// look asks the kernel about all servers, and tells what has changed. idle tells that
// nothing has been heard of them since the last look.
func (s *session) look(idle bool) error {
	s.looking.Lock()
	defer s.looking.Unlock()
	shown := s.shown()
	own := make([][]sockets.Socket, len(shown))
	var ports []uint16
	for i, c := range shown {
		var complete bool
		if own[i], complete = c.ownSockets(s.seen[c.id], idle); !complete {
			own[i] = nil
			ports = append(ports, c.where().Port())
		}
	}
	if len(ports) > 0 {
		listed, err := sockets.OpenAt(ports...)
		if err != nil {
			return fmt.Errorf("cannot ask the kernel: %w", err)
		}
		for i := range own {
			if own[i] == nil {
				own[i] = listed
			}
		}
	}
	for i, c := range shown {
		e := c.view(own[i], s.peers.nameOf)
		if c.frozen() {
			c.judge = judge{} // what it does not do is no fault of its
		} else {
			e.Verdicts = c.judge.verdicts(e, c.journal.conductOf(c.id), c.resets(), s.peers.nameOf, clock.Now())
		}
		if last := s.seen[c.id]; last != nil && same(last, e) {
			continue
		}
		s.seen[c.id] = e
		s.journal.tell("kernel/"+c.id, "kernel", e)
	}
	return nil
}

// ownSockets asks for each socket of a server that is known: to list a port, the kernel
// goes through every socket of the machine. complete is false when there may be others: in
// the accept queue, or accepted by a call that was not seen. before is the last view.
func (c *column) ownSockets(before *kernelEvent, idle bool) (own []sockets.Socket, complete bool) {
	own = []sockets.Socket{}
	c.mu.Lock()
	run, addr, untraced := c.run, c.addr, c.about.Untraced
	c.mu.Unlock()
	if !addr.IsValid() {
		return own, true // it has not listened yet
	}
	if run != nil && (untraced || run.pid() != self && !idle) {
		return nil, false // a program may listen on more addresses
	}
	queued := uint32(0)
	for _, peer := range c.knownPeers(before) {
		s, err := sockets.Connection(addr, peer)
		if errors.Is(err, sockets.ErrNone) || err == nil && s.State == sockets.TimeWait {
			continue
		}
		if err != nil {
			return nil, false
		}
		own = append(own, s)
		if s.Inode == 0 && (s.State == sockets.Established || s.State == sockets.CloseWait) {
			queued++
		}
	}
	if run == nil {
		return own, true
	}
	listener, err := sockets.ListenerAt(addr)
	return append(own, listener), err == nil && listener.Unread <= queued
}

// knownPeers returns the addresses of clients that the server may have connections with.
func (c *column) knownPeers(before *kernelEvent) []netip.AddrPort {
	var peers []netip.AddrPort
	c.journal.look(c.id, func(s *trace.State) {
		peers = slices.AppendSeq(peers, maps.Keys(s.Descriptors()))
	})
	c.nearMu.Lock()
	peers = slices.AppendSeq(peers, maps.Values(c.near))
	c.nearMu.Unlock()
	if before != nil {
		for _, conn := range before.Conns {
			if peer, err := netip.ParseAddrPort(conn.Peer); err == nil {
				peers = append(peers, peer)
			}
		}
	}
	slices.SortFunc(peers, netip.AddrPort.Compare)
	return slices.Compact(peers)
}

// same says whether two views show the same.
func same(a, b *kernelEvent) bool {
	x, y := *a, *b
	x.header, y.header = header{}, header{}
	return reflect.DeepEqual(x, y)
}

// view is what the kernel says about one server. What cannot be read in this
// moment, because the server is just ending, is left out.
func (c *column) view(all []sockets.Socket, nameOf func(netip.AddrPort) string) *kernelEvent {
	c.mu.Lock()
	run, addr, foreign := c.run, c.addr, c.foreignCalls
	c.mu.Unlock()
	epoll, listener := -1, -1
	var fds map[netip.AddrPort]int // of connections, by client
	c.journal.look(c.id, func(s *trace.State) {
		epoll, listener, fds = s.Epoll, s.Listener, s.Descriptors()
	})

	e := &kernelEvent{Server: c.id, Conns: []connection{}, Threads: -1, Verdicts: []verdict{}}
	if run == nil && !addr.IsValid() {
		return e
	}
	var byInode map[string]int
	if run != nil {
		e.Threads = run.threads()
		if run.pid() != self || c.about.Untraced {
			byInode = descriptors(run.pid())
		}
		if run.pid() != self && !foreign {
			e.Stands = blockedIn(run.pid())
		}
	}
	byFD := map[int]string{} // the client at the other end
	for _, socket := range all {
		if socket.Local.Port() != addr.Port() {
			continue
		}
		fd, known := byInode[proc.SocketLink(socket.Inode)]
		if socket.State == sockets.Listen {
			e.Listener = &queue{socket.Unread, socket.Unsent}
			if known {
				listener = fd
			}
			continue
		}
		conn := connection{
			Client: nameOf(socket.Remote), Peer: socket.Remote.String(), FD: -1,
			State: socket.State.String(), Unread: socket.Unread, Unsent: socket.Unsent,
			Accepted: socket.Inode != 0,
		}
		if !known {
			fd, known = fds[socket.Remote]
		}
		if known && conn.Accepted {
			conn.FD = fd
			byFD[fd] = conn.Client
		}
		e.Conns = append(e.Conns, conn)
	}
	slices.SortFunc(e.Conns, func(a, b connection) int { return cmp.Compare(a.Peer, b.Peer) })
	e.Conns = e.Conns[:min(len(e.Conns), shownConns)]
	if run != nil {
		e.Interest = interests(run.pid(), epoll, listener, byFD, byInode)
	}
	return e
}

// blockedIn returns the call in which a program is blocked, or nil: it runs, or we may not
// look.
func blockedIn(pid int) *stance {
	call, err := proc.BlockedIn(pid)
	if err != nil {
		return nil
	}
	return &stance{call.Name(), call.Descriptor()}
}

// descriptors is the descriptors of a process by what they are.
func descriptors(pid int) map[string]int {
	byLink := map[string]int{}
	links, err := proc.Descriptors(pid)
	if err != nil {
		return byLink // it has just ended
	}
	for fd, link := range links {
		byLink[link] = fd
	}
	return byLink
}

// interests is the entries of the interest list in which the listener is, that have
// to do with the server: in a Go program, the runtime's own list holds more. epoll is
// its descriptor, or -1 when that is not known.
func interests(pid, epoll, listener int, clients map[int]string, byInode map[string]int) []interest {
	if listener < 0 {
		return nil
	}
	entries, err := proc.Interests(pid, epoll)
	if byInode != nil { // its calls have not told of epoll
		entries, err = proc.InterestsWith(pid, listener)
	}
	if err != nil || !slices.ContainsFunc(entries, func(i proc.Interest) bool { return i.FD == listener }) {
		return nil
	}
	list := []interest{}
	for _, entry := range entries {
		i := interest{FD: entry.FD, Events: kernel.EventNames(asked(entry.Events))}
		name, connected := clients[entry.FD]
		switch {
		case entry.FD == listener:
			i.What = "listener"
		case connected:
			i.What, i.Client = "connection", name
		default:
			continue
		}
		list = append(list, i)
	}
	slices.SortFunc(list, func(a, b interest) int { return cmp.Compare(a.FD, b.FD) })
	return list
}

// asked is the events that were asked for: the kernel adds EPOLLERR and EPOLLHUP to
// every entry.
func asked(events uint32) uint32 {
	const always = 0x008 | 0x010 // EPOLLERR, EPOLLHUP
	return events &^ always
}
