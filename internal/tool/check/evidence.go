//go:build linux

package check

import (
	"cmp"
	"context"
	"debug/buildinfo"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"lesson/internal/kernel"
	"lesson/internal/observe/proc"
	"lesson/internal/observe/ptrace"
	"lesson/internal/observe/sockets"
	"lesson/internal/play"
	"lesson/internal/report"
)

// A sight is what the kernel shows of the server when a step has failed: the evidence
// from which a cause may follow.
type sight struct {
	looked bool // the server's processes can be seen
	gone   bool // they have ended while they were looked at
	link   link
	unread int  // bytes in the server's receive buffer
	queue  int  // connections in the accept queue
	full   bool // no descriptor is free: the server has as many as its limit

	spins bool
	spin  *spin // what it does again and again; nil where that cannot be seen

	reading, writing []proc.Call // by threads blocked on the connections of other clients
	waiting          bool        // a thread is blocked in epoll_wait, poll or select
	closing          bool        // a thread is blocked in close or shutdown
	accepting        bool        // a thread is blocked in accept
	connection       interest    // how epoll watches the client's connection
	listener         interest    // how epoll watches the listener
}

// A link is how far the server has come with a connection.
type link uint8

const (
	unknownLink link = iota // the server has closed it, or runs elsewhere
	queued                  // it is in the accept queue
	bytesUnread             // bytes are in the receive buffer
	endUnread               // all bytes have been read, and end of file has not
	endCame                 // so has end of file, or the next read returns it
	allRead                 // all that has come has been read
)

// An interest is an entry of an interest list, if there is one.
type interest struct {
	proc.Interest
	watched bool
	known   bool // an epoll descriptor was found, and its list read
	runtime bool // the list is that of the Go runtime, and not the program's own
}

// edge reports whether the program itself has asked for edges.
func (i interest) edge() bool {
	return i.watched && i.Events&unix.EPOLLET != 0 && !i.runtime
}

// waitCalls are those in which a thread waits for events. Their first argument is a
// descriptor only where the name begins with epoll.
var waitCalls = []string{
	"epoll_wait", "epoll_pwait", "epoll_pwait2", "poll", "ppoll", "select", "pselect6",
}

var readCalls = []string{"read", "readv", "recvfrom", "recvmsg", "recvmmsg", "pread64"}

var writeCalls = []string{"write", "writev", "sendto", "sendmsg", "sendmmsg", "sendfile", "splice"}

// in spells a call in which a thread is blocked.
func in(c proc.Call) string { return on(c.Name(), c.Descriptor()) }

// on spells a call with its first argument, if that is a descriptor: that of poll is a
// pointer.
func on(name string, fd int) string {
	if !strings.HasPrefix(name, "epoll_") && !strings.HasPrefix(name, "accept") &&
		!slices.Contains(readCalls, name) && !slices.Contains(writeCalls, name) {
		return name
	}
	return fmt.Sprintf("%s(%d, …)", name, fd)
}

// observe looks at the server, and at its end of a connection if c is not nil. The words
// say what there is to be seen.
func (t *trial) observe(c *play.Conn) (*sight, string) {
	s := &sight{}
	var theirs sockets.Socket
	var words []string
	if c != nil {
		theirs = s.lookAt(t, c)
		if text := s.link.words(s.unread); text != "" {
			words = append(words, text)
		}
	}
	if l, err := t.listener(); err == nil {
		s.queue = int(l.Unread)
		if c == nil && s.queue > 0 {
			words = append(words, report.Plural(s.queue, "connection waits", "connections wait")+
				" in the accept queue")
		}
	}
	if doing := s.lookInside(t, theirs); doing != "" {
		words = append(words, doing)
	}
	if len(words) == 0 {
		return s, ""
	}
	return s, "; the kernel shows: " + strings.Join(words, ", and ")
}

// lookAt looks at the server's end of a connection.
func (s *sight) lookAt(t *trial, c *play.Conn) sockets.Socket {
	theirs, err := t.theirs(c)
	if err != nil {
		return theirs
	}
	s.unread = int(theirs.Unread)
	halfClosed := theirs.State == sockets.CloseWait
	if halfClosed && s.unread > 0 {
		s.unread-- // end of file counts as a byte until it is read
	}
	switch {
	case theirs.Inode == 0:
		s.link = queued
	case s.unread > 0:
		s.link = bytesUnread
	case halfClosed && theirs.Unread > 0:
		s.link = endUnread
	case halfClosed:
		s.link = endCame
	default:
		s.link = allRead
	}
	return theirs
}

func (l link) words(unread int) string {
	switch l {
	case queued:
		return "the server has not accepted the connection"
	case bytesUnread:
		return report.Plural(unread, "byte lies", "bytes lie") + " unread in the server's receive buffer"
	case endUnread:
		return "the server has not read the end of file"
	case endCame:
		return "end of file has come, and the server keeps the connection"
	case allRead:
		return "the server has read all that was sent"
	}
	return ""
}

// lookInside looks at the processes of the server, and says what they do.
func (s *sight) lookInside(t *trial, theirs sockets.Socket) string {
	if !t.server.visible() {
		return ""
	}
	if t.server.Ended() {
		return "the server's process has ended"
	}
	s.looked = true
	blocked, spins := t.blockedForGood()
	if spins != nil {
		s.spins, s.spin = true, spins
		return "the server spins: " + s.spin.String()
	}
	if !blocked {
		const window = 100 * time.Millisecond
		use, err := t.server.useWithin(t.ctx, window)
		if err != nil {
			s.gone = errors.Is(err, proc.ErrGone)
			return goneWords(err)
		}
		if use.ran > window/5 || use.spins(window) {
			// On a busy machine a thread that spins seems to sleep now and then.
			s.spin = t.server.spinning(t.ctx)
			s.spins = use.spins(window) || s.spin.kind != spinsUnknown
		}
		if s.spins {
			return "the server spins: " + s.spin.String()
		}
	}
	words := s.lookAtThreads(t, theirs)
	if blocked {
		words += ", and nothing is on its way to it"
	}
	return words
}

func goneWords(err error) string {
	if errors.Is(err, proc.ErrGone) {
		return "the server's process has ended"
	}
	return ""
}

// lookAtThreads says where the threads of the server are blocked: those that matter for
// the client first.
func (s *sight) lookAtThreads(t *trial, theirs sockets.Socket) string {
	var own, wait, accepting, others *proc.Call
	theirsToo := map[uint32]bool{} // the connections of other clients
	if open, err := sockets.Open(t.server.Addr.Port()); err == nil {
		for _, o := range open {
			if o.State != sockets.Listen && o.Inode != 0 && o.Inode != theirs.Inode {
				theirsToo[o.Inode] = true
			}
		}
	}
	for _, pid := range t.server.Pids() {
		descriptors, err := proc.Descriptors(pid)
		if err != nil {
			continue // it has just ended
		}
		s.lookAtInterests(t, pid, theirs)
		if limit, err := proc.DescriptorLimit(pid); err == nil && len(descriptors) >= limit {
			s.full = true
		}
		inodeOf := func(fd int) (inode uint32) {
			_, _ = fmt.Sscanf(descriptors[fd], "socket:[%d]", &inode) // 0 if it is no socket
			return inode
		}
		for _, tid := range proc.ThreadIDs(pid) {
			call, err := proc.ThreadBlockedIn(tid)
			if err != nil {
				continue
			}
			name, inode := call.Name(), inodeOf(call.Descriptor())
			onOther := theirsToo[inode]
			switch {
			case slices.Contains(waitCalls, name):
				s.waiting = true
				wait = cmp.Or(wait, &call)
			case theirs.Inode != 0 && inode == theirs.Inode:
				own = cmp.Or(own, &call)
			case onOther && slices.Contains(readCalls, name):
				s.reading = append(s.reading, call)
			case onOther && slices.Contains(writeCalls, name):
				s.writing = append(s.writing, call)
			case strings.HasPrefix(name, "accept"):
				s.accepting = true
				accepting = cmp.Or(accepting, &call)
			default:
				s.closing = s.closing || name == "close" || name == "shutdown"
				others = cmp.Or(others, &call)
			}
		}
	}
	stuck := s.link == queued || s.link == bytesUnread || s.link == unknownLink
	switch busy := append(slices.Clone(s.reading), s.writing...); {
	case own != nil:
		return "the server sleeps, in " + in(*own) + " on this connection"
	case stuck && len(busy) == 1:
		return "the server sleeps, in " + in(busy[0]) + " on the connection of another client"
	case stuck && len(busy) > 1:
		return fmt.Sprintf("%d threads sleep in %s and the like, on the connections of other clients",
			len(busy), busy[0].Name())
	case wait != nil:
		return "the server sleeps, in " + in(*wait) + s.connection.words()
	case accepting != nil:
		return "the server sleeps, in " + in(*accepting)
	case others != nil:
		return "the server sleeps, in " + in(*others)
	}
	return "the server sleeps"
}

// words says how epoll watches the connection, where the list is the program's own.
func (i interest) words() string {
	switch {
	case i.runtime || !i.known:
		return ""
	case !i.watched:
		return ", which does not watch this connection"
	}
	return fmt.Sprintf(", which watches this connection, descriptor %d, for %s",
		i.FD, kernel.EventNames(i.Events&^(unix.EPOLLHUP|unix.EPOLLERR)))
}

// lookAtInterests looks for the connection and the listener in the interest lists of a
// process.
func (s *sight) lookAtInterests(t *trial, pid int, theirs sockets.Socket) {
	runtime := isGo(pid)
	if theirs.Inode != 0 {
		s.connection.find(pid, theirs, runtime)
	}
	if l, err := t.listener(); err == nil {
		s.listener.find(pid, l, runtime)
	}
}

func (i *interest) find(pid int, socket sockets.Socket, isGo bool) {
	if i.watched || socket.Inode == 0 {
		return
	}
	fd, open, err := proc.DescriptorOf(pid, socket.Inode)
	if err != nil || !open {
		return
	}
	list, err := proc.InterestsWith(pid, fd)
	if err != nil {
		return
	}
	at := slices.IndexFunc(list, func(in proc.Interest) bool { return in.FD == fd })
	if at < 0 {
		i.known = hasEpoll(pid) && !isGo // the runtime's own list says nothing here
		return
	}
	// The runtime asks for both directions, at edges, and hands back a pointer.
	const netpoll = unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET
	*i = interest{
		Interest: list[at], watched: true, known: true,
		runtime: isGo && list[at].Events&netpoll == netpoll && list[at].Data != uint64(fd),
	}
}

func hasEpoll(pid int) bool {
	descriptors, err := proc.Descriptors(pid)
	return err == nil &&
		slices.Contains(slices.Collect(maps.Values(descriptors)), "anon_inode:[eventpoll]")
}

// isGo reports whether the process runs a program of Go.
func isGo(pid int) bool {
	_, err := buildinfo.ReadFile(fmt.Sprintf("/proc/%d/exe", pid))
	return err == nil
}

// useWithin returns what the threads of the server do in some time.
func (s *server) useWithin(ctx context.Context, window time.Duration) (use, error) {
	const parts = 4
	began, err := s.Used()
	if err != nil {
		return use{}, err
	}
	ticks, busy := int64(math.MaxInt64/parts), time.Duration(math.MaxInt64/parts)
	before, slept := began, false
	for part := range parts + 1 {
		if part > 0 {
			select {
			case <-time.After(window / parts):
			case <-ctx.Done():
			}
		}
		after, err := s.Used()
		if err != nil {
			return use{}, err
		}
		// What a thread waits for a processor is not counted before it has got one: nothing
		// follows from a quarter at whose ends it did not sleep.
		sleeps, err := s.asleep()
		if err != nil {
			return use{}, err
		}
		if part > 0 && slept && sleeps {
			u := useOf(after.Since(before))
			ticks, busy = min(ticks, u.sleeps), min(busy, u.ran+u.waited)
		}
		before, slept = after, sleeps
	}
	u := useOf(before.Since(began))
	u.ticks, u.busy = parts*ticks, parts*busy
	return u, nil
}

// A spin is what a server that never sleeps does: a call with its outcome, and how often.
type spin struct {
	ptrace.Outcome
	kind  spinKind
	times int64
	took  time.Duration
	err   error // why its calls cannot be seen
}

// The calls of a server that spins are watched until they show why, or for spinMost: on a
// busy machine longer, if it has not had its turn.
const (
	spinLook    = 50 * time.Millisecond
	spinMost    = 500 * time.Millisecond
	spinLongest = 2 * time.Second
	spinCalls   = 50 // are enough
	// leastPause is a pause between two calls of accept that fail, with which it does not spin.
	leastPause = 50 * time.Millisecond
	// spinAlone is the processor time after which a server that makes no calls makes none.
	spinAlone = 100 * time.Millisecond
	// fewNaps is how many calls of a language's runtime say nothing: while Go computes, it
	// calls nanosleep a hundred times a second. A server that polls does so more often.
	fewNaps = 100
)

func (s *spin) String() string {
	switch {
	case s.err != nil:
		return "it never sleeps (its calls cannot be seen: " + s.err.Error() + ")"
	case s.kind == spinsWithoutCalls:
		return "it never sleeps, and makes no system call"
	case s.Call == "":
		return "it never sleeps"
	}
	result := fmt.Sprint(s.Result)
	switch {
	case s.Result < 0:
		result = unix.ErrnoName(unix.Errno(-s.Result))
	case s.Events != 0:
		result = kernel.EventNames(s.Events)
	case s.Result > 0 && slices.Contains(readCalls, s.Call):
		result = "bytes"
	case s.Result > 0:
		result = "at once"
	}
	return fmt.Sprintf("%s returned %s, %s in %v", on(s.Call, s.FD), result,
		report.Plural(int(s.times), "time", "times"), s.took.Round(time.Millisecond))
}

// spinning watches the calls of a server that spins.
func (s *server) spinning(ctx context.Context) *spin {
	counter, err := ptrace.Count(s.Pids()...)
	if err != nil {
		return &spin{err: err}
	}
	began, before := time.Now(), s.ran()
	found := &spin{}
	looks := func() bool {
		took := time.Since(began)
		return took < spinMost || took < spinLongest && s.ran()-before < aTurn
	}
	for ctx.Err() == nil && (found.times < spinCalls || found.kind == spinsUnknown) && looks() {
		select {
		case <-time.After(spinLook):
		case <-ctx.Done():
		}
		outcomes := counter.Outcomes()
		calls := callsIn(outcomes) // before some are left out
		found = spinOf(s.withoutOutput(outcomes))
		if found.kind == spinsUnknown && found.times < fewSpins && calls < fewNaps &&
			s.ran()-before > spinAlone {
			found.kind = spinsWithoutCalls
			break
		}
	}
	found.took = time.Since(began)
	if found.kind == spinsAccepting && found.took > time.Duration(found.times)*leastPause {
		found.kind = spinsUnknown
	}
	if err := counter.Detach(); err != nil {
		return &spin{err: err}
	}
	return found
}

// callsIn returns how many calls there were, those of a language's runtime included.
func callsIn(outcomes map[ptrace.Outcome]int64) (n int64) {
	for _, times := range outcomes {
		n += times
	}
	return n
}

// withoutOutput leaves out what a server has written to or read from something that is no
// socket, such as a line in its log or the source that a traceback quotes: that is no work for
// a client. End of file remains, except that of a file.
func (s *server) withoutOutput(outcomes map[ptrace.Outcome]int64) map[ptrace.Outcome]int64 {
	sockets, others := map[int]bool{}, map[int]string{}
	for _, pid := range s.Pids() {
		descriptors, err := proc.Descriptors(pid)
		if err != nil {
			continue // it has just ended
		}
		for fd, link := range descriptors {
			if others[fd] = link; strings.HasPrefix(link, "socket:") {
				sockets[fd] = true
			}
		}
	}
	maps.DeleteFunc(outcomes, func(o ptrace.Outcome, _ int64) bool {
		if !slices.Contains(readCalls, o.Call) && !slices.Contains(writeCalls, o.Call) ||
			sockets[o.FD] {
			return false
		}
		link := others[o.FD] // "" if it is not open any more
		return link != "" && o.Result > 0 || o.Result == 0 && strings.HasPrefix(link, "/")
	})
	return outcomes
}

// ran returns the processor time of the server so far, 0 when it has ended.
func (s *server) ran() time.Duration {
	used, err := s.Used()
	if err != nil {
		return 0
	}
	return used.CPU
}
