//go:build linux

package lesson

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"lesson/internal/kernel"
	"lesson/internal/observe/trace"
	"lesson/internal/server"
)

// stopWithin bounds a stop. No lesson needs so long, but a terminal that does not
// read can keep one from ending at all.
const stopWithin = 2 * time.Second

// A Run is one run of a lesson as a program.
type Run struct {
	Lesson  Lesson
	Loops   int // servers side by side on the same address; 0 is 1
	Options server.Options
	Trace   trace.Observer // nil: no trace
	Log     io.Writer      // where it says what it does
}

// EndSignals returns the signals that end a command of this program in good order: Ctrl-C,
// the usual kill(1), and the one that a closed terminal sends. SIGHUP is not among them
// when nohup(1) has had it ignored.
func EndSignals() []os.Signal {
	signals := []os.Signal{unix.SIGINT, unix.SIGTERM}
	if !signal.Ignored(unix.SIGHUP) {
		signals = append(signals, unix.SIGHUP)
	}
	return signals
}

// Do starts the lesson and returns when it has ended: by itself, by one of EndSignals, or
// with an error. A second signal ends the program at once.
func (r Run) Do() error {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, EndSignals()...)
	defer signal.Stop(signals)
	signal.Ignore(unix.SIGPIPE) // a write to a closed pipe fails with EPIPE instead
	if r.Options.Requests != nil {
		r.Options.Requests = &page{to: r.Options.Requests, log: r.Log}
	}

	linux := r.Lesson.Kernel()
	servers, err := r.start(linux)
	if err != nil {
		return err
	}
	r.announce(servers[0].Addr())
	setup := linux.Calls()

	ended := make(chan error, len(servers))
	for _, s := range servers {
		go func() { ended <- s.Serve() }()
	}
	err = r.wait(servers, ended, signals, linux)
	r.summarize(servers, linux.Calls()-setup)
	return err
}

// start makes the servers. With several loops, all share the address through
// SO_REUSEPORT, and the kernel spreads the connections over their listeners.
func (r Run) start(linux *kernel.Linux) ([]Server, error) {
	var k kernel.Kernel = linux
	if r.Trace != nil {
		k = trace.Traced(linux, r.Trace)
	}
	options := r.Options
	loops := max(r.Loops, 1)
	options.ReusePort = loops > 1

	var servers []Server
	for range loops {
		s, err := r.Lesson.Start(k, options)
		if err != nil {
			for _, started := range servers {
				started.Stop()
				_ = started.Serve() // ends at once, and frees what it has
			}
			return nil, ListenError(r.Options.Addr, err)
		}
		options.Addr = s.Addr() // port 0 has become a real one: the same for all
		servers = append(servers, s)
	}
	return servers, nil
}

// wait waits until every server has ended. One that fails ends the others.
func (r Run) wait(
	servers []Server, ended <-chan error, signals chan os.Signal, k kernel.Kernel,
) error {
	stop := func() {
		for _, s := range servers {
			s.Stop()
		}
	}
	var failed error
	late := make(chan error, 1)
	for running := len(servers); running > 0; {
		select {
		case err := <-ended:
			running--
			if err != nil {
				failed = errors.Join(failed, err)
				stop()
			}
		case <-signals:
			signal.Stop(signals) // the next one has its usual effect
			fmt.Fprintln(r.Log, "\nstopping: answering complete requests (a second signal ends the server at once)")
			stop()
			go func() { late <- k.Nanosleep(stopWithin) }() // no timer: see Nanosleep
		case <-late:
			err := fmt.Errorf("not stopped after %v: standard output may be blocked;"+
				" is its reader still running?", stopWithin)
			return errors.Join(failed, err)
		}
	}
	return failed
}

// announce prints where the server listens, in lines of at most 80 columns for an
// address of IPv4.
func (r Run) announce(addr netip.AddrPort) {
	host := addr
	if host.Addr().IsUnspecified() { // listens everywhere, reached here
		host = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), addr.Port())
	}
	fmt.Fprintf(r.Log, "%s, step %d: %s\n", r.Lesson.Name, r.Lesson.Step, r.Lesson.Title)
	fmt.Fprintf(r.Log, "listening on %s  pid %d  try: curl %s  stop: Ctrl-C\n",
		addr, os.Getpid(), host)
}

// A page prints requests. It prints none after one that could not be
// printed: that is no reason not to answer it, or to try again.
type page struct {
	to, log io.Writer
	mu      sync.Mutex // several loops share the page
	failed  bool
}

func (p *page) Write(request []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.failed {
		return len(request), nil
	}
	n, err := p.to.Write(request)
	if err != nil {
		p.failed = true
		fmt.Fprintf(p.log, "cannot print requests: %v; answering them all the same\n", err)
	}
	return n, err
}

// summarize prints how the clients ended and what they cost. Go never ends an
// OS thread it has started, so the threads there are now are the most there
// have been.
func (r Run) summarize(servers []Server, calls int64) {
	var accepted, served, refused, timedOut, left, reset int64
	for _, s := range servers {
		c := s.Counts()
		accepted += c.Accepted.Load()
		served += c.Served.Load()
		refused += c.Refused.Load()
		timedOut += c.TimedOut.Load()
		left += c.Left.Load()
		reset += c.Reset.Load()
	}
	parts := []string{
		fmt.Sprintf("served %d, refused %d, timed out %d, left %d, reset %d",
			served, refused, timedOut, left, reset),
	}
	switch {
	case r.Lesson.Untraced:
		parts = append(parts, "system calls made by package net, not counted")
	case accepted > 0:
		each := float64(calls) / float64(accepted)
		parts = append(parts, fmt.Sprintf("%.1f system calls per client", each))
	}
	if tasks, err := os.ReadDir("/proc/self/task"); err == nil {
		parts = append(parts, fmt.Sprintf("%d threads at most", len(tasks)))
	}
	fmt.Fprintln(r.Log, strings.Join(parts, "; "))
}

// ParseAddr parses host:port, with a name, an IPv4 or an IPv6 address for host. No host
// is every IPv4 address. what names the flag or the argument in an error: "--addr".
func ParseAddr(what, text string) (netip.AddrPort, error) {
	tcp, err := net.ResolveTCPAddr("tcp", text)
	var lookup *net.DNSError
	if host, _, split := net.SplitHostPort(text); split == nil && errors.As(err, &lookup) && lookup.Name == host {
		return netip.AddrPort{}, fmt.Errorf("bad address %q; no address is known for the host name %s:"+
			" give %s an IP address", text, host, what)
	}
	if err != nil || text == "" { // net takes "" for every address and any port
		return netip.AddrPort{}, fmt.Errorf("bad address %q; give %s as host:port, for example 127.0.0.1:8080"+
			" or [::1]:8080, with a port up to 65535", text, what)
	}
	addr := tcp.AddrPort()
	if !addr.Addr().IsValid() {
		return netip.AddrPortFrom(netip.IPv4Unspecified(), addr.Port()), nil
	}
	return netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port()), nil
}

// ListenError returns an error of one line: what failed, and what to try.
func ListenError(addr netip.AddrPort, err error) error {
	hint := "see --help for what --addr can be"
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		hint = fmt.Sprintf("see which process has it with: ss -ltnp 'sport = :%d', or let the kernel"+
			" choose with: --addr 127.0.0.1:0", addr.Port())
	case errors.Is(err, unix.EACCES):
		hint = "ports below 1024 need a privilege (CAP_NET_BIND_SERVICE); try --addr 127.0.0.1:8080"
	case errors.Is(err, unix.EADDRNOTAVAIL), errors.Is(err, unix.ENODEV):
		hint = "this machine has no such address; `ip addr` lists those it has"
	case errors.Is(err, unix.EAFNOSUPPORT):
		hint = "this machine has no IPv6; try --addr 127.0.0.1:8080"
	case kernel.IsExhausted(err):
		hint = "out of descriptors or memory; `ulimit -n` shows the limit"
	}
	return fmt.Errorf("cannot listen on %s: %w; %s", addr, err, hint)
}
