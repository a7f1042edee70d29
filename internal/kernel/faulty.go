//go:build linux

package kernel

import (
	"math/rand/v2"
	"sync"

	"golang.org/x/sys/unix"
)

// A Fault makes a call fail or fall short.
type Fault struct {
	Err   error // fail with this error and do not make the call
	Limit int   // else, if over 0: read or send at most this many bytes
}

// A Faulty makes chosen calls fail or fall short and passes all others to the
// Kernel inside it. A call that fails is not made: after EMFILE the connection
// is still in the accept queue, after EINTR the bytes are still unread. But
// Close always closes, as Linux does whatever close(2) returns.
type Faulty struct {
	Kernel

	// Plan is called before every call that can fail, with its name in the
	// manual and its descriptor (-1 if none). It must be safe for concurrent
	// use.
	Plan func(name string, fd int) (Fault, bool)
}

// Script returns a plan in which the first calls of a name get the faults listed
// for it, in order. The zero Fault lets its call pass.
func Script(faults map[string][]Fault) func(name string, fd int) (Fault, bool) {
	var mu sync.Mutex
	return func(name string, fd int) (Fault, bool) {
		mu.Lock()
		defer mu.Unlock()
		if len(faults[name]) == 0 {
			return Fault{}, false
		}
		fault := faults[name][0]
		faults[name] = faults[name][1:]
		return fault, fault != Fault{}
	}
}

// Seeded returns a plan in which a share (0 to 1) of the calls of accept4, read, send
// and epoll_wait get a random fault. The same seed gives the same faults. A server must
// survive all of them, and no client may notice them. again adds EAGAIN, which a
// level-triggered server must survive as well. An edge-triggered one cannot: it
// takes EAGAIN to mean that everything has been read.
func Seeded(seed uint64, share float64, again bool) func(name string, fd int) (Fault, bool) {
	faults := map[string][]Fault{
		"accept4": {
			{Err: unix.EINTR}, {Err: unix.ECONNABORTED}, {Err: unix.EMFILE}, {Err: unix.ENOBUFS},
		},
		"read":       {{Err: unix.EINTR}, {Limit: 1}, {Limit: 2}},
		"send":       {{Err: unix.EINTR}, {Limit: 1}, {Limit: 100}},
		"epoll_wait": {{Err: unix.EINTR}},
	}
	if again {
		for _, name := range []string{"accept4", "read", "send"} {
			faults[name] = append(faults[name], Fault{Err: unix.EAGAIN})
		}
	}
	var mu sync.Mutex
	random := rand.New(rand.NewPCG(seed, 0))
	return func(name string, fd int) (Fault, bool) {
		mu.Lock()
		defer mu.Unlock()
		if len(faults[name]) == 0 || random.Float64() >= share {
			return Fault{}, false
		}
		return faults[name][random.IntN(len(faults[name]))], true
	}
}

func (f *Faulty) fault(name string, fd int) error {
	fault, _ := f.Plan(name, fd)
	return fault.Err
}

func (f *Faulty) Socket(domain, typ, proto int) (int, error) {
	if err := f.fault("socket", -1); err != nil {
		return -1, err
	}
	return f.Kernel.Socket(domain, typ, proto)
}

func (f *Faulty) Listen(fd, backlog int) error {
	if err := f.fault("listen", fd); err != nil {
		return err
	}
	return f.Kernel.Listen(fd, backlog)
}

func (f *Faulty) SetsockoptInt(fd, level, name, value int) error {
	if err := f.fault("setsockopt", fd); err != nil {
		return err
	}
	return f.Kernel.SetsockoptInt(fd, level, name, value)
}

func (f *Faulty) Accept4(fd, flags int) (int, error) {
	if err := f.fault("accept4", fd); err != nil {
		return -1, err
	}
	return f.Kernel.Accept4(fd, flags)
}

func (f *Faulty) Read(fd int, p []byte) (int, error) {
	fault, ok := f.Plan("read", fd)
	if fault.Err != nil {
		return -1, fault.Err
	}
	if ok && fault.Limit > 0 {
		p = p[:min(fault.Limit, len(p))]
	}
	return f.Kernel.Read(fd, p)
}

func (f *Faulty) Send(fd int, p []byte, flags int) (int, error) {
	fault, ok := f.Plan("send", fd)
	if fault.Err != nil {
		return -1, fault.Err
	}
	if ok && fault.Limit > 0 {
		p = p[:min(fault.Limit, len(p))]
	}
	return f.Kernel.Send(fd, p, flags)
}

func (f *Faulty) Shutdown(fd, how int) error {
	if err := f.fault("shutdown", fd); err != nil {
		return err
	}
	return f.Kernel.Shutdown(fd, how)
}

func (f *Faulty) Close(fd int) error {
	if err := f.Kernel.Close(fd); err != nil {
		return err
	}
	return f.fault("close", fd)
}

func (f *Faulty) EpollCreate1(flags int) (int, error) {
	if err := f.fault("epoll_create1", -1); err != nil {
		return -1, err
	}
	return f.Kernel.EpollCreate1(flags)
}

func (f *Faulty) EpollCtl(epfd, op, fd int, event unix.EpollEvent) error {
	if err := f.fault("epoll_ctl", fd); err != nil {
		return err
	}
	return f.Kernel.EpollCtl(epfd, op, fd, event)
}

func (f *Faulty) EpollWait(epfd int, events []unix.EpollEvent, milliseconds int) (int, error) {
	if err := f.fault("epoll_wait", -1); err != nil {
		return -1, err
	}
	return f.Kernel.EpollWait(epfd, events, milliseconds)
}
