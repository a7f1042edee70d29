//go:build linux

package proc

import (
	"net"
	"net/netip"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestThis(t *testing.T) {
	m, err := This()
	if err != nil {
		t.Fatal(err)
	}
	uname, err := exec.Command("uname", "-r").Output()
	if err != nil {
		t.Fatal(err)
	}
	if m.Kernel != strings.TrimSpace(string(uname)) || m.Go != runtime.Version() {
		t.Errorf("kernel %q, go %q", m.Kernel, m.Go)
	}
	if len(m.CPUs) != runtime.NumCPU() {
		t.Errorf("processors %v, want %d", m.CPUs, runtime.NumCPU())
	}
	if m.Memory < 1<<26 {
		t.Errorf("memory %d", m.Memory)
	}
	if s := m.String(); !strings.Contains(s, m.Kernel) || !strings.Contains(s, m.Go) {
		t.Errorf("String is %q", s)
	}
}

func TestLimits(t *testing.T) {
	l, err := ReadLimits()
	if err != nil {
		t.Fatal(err)
	}
	if l.Descriptors < 100 || l.Ports < 100 || l.Backlog < 1 {
		t.Errorf("%+v", l)
	}
}

// A connection that a client closes first leaves a TIME_WAIT behind.
func TestTimeWaitIsCounted(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	const many = 50
	for range many {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		_ = c.Close()
		_ = theirs.Close()
	}
	// Others' may end meanwhile, but not within the minute that these last.
	deadline := time.Now().Add(5 * time.Second)
	for {
		limits, err := ReadLimits()
		if err != nil {
			t.Fatal(err)
		}
		if limits.TimeWait >= many {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d in TIME_WAIT after %d connections were closed", limits.TimeWait, many)
		}
		time.Sleep(time.Millisecond)
	}
}

func TestSourcesAreThisMachine(t *testing.T) {
	loopback := netip.MustParsePrefix("127.0.0.0/8")
	seen := map[netip.Addr]bool{}
	for n := range 1 << 16 {
		a := Source(n)
		if !loopback.Contains(a) || seen[a] {
			t.Fatalf("source %d is %v", n, a)
		}
		seen[a] = true
	}
	if Source(0) != netip.MustParseAddr("127.1.0.1") {
		t.Errorf("the first is %v", Source(0))
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dialer := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(Source(300), 0))}
	c, err := dialer.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
}

// A client that finds the accept queue full is counted, and tries again.
func TestFullAcceptQueuesAreCounted(t *testing.T) {
	before, err := ReadCounters()
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	at, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 { // a queue for 0 takes one
		c, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(c)
		if err := unix.Connect(c, at); err != nil && err != unix.EINPROGRESS {
			t.Fatal(err)
		}
	}
	for began := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		now, err := ReadCounters()
		if err != nil {
			t.Fatal(err)
		}
		if since := now.Since(before); since.QueueFull > 0 && since.ConnectAgain > 0 {
			return
		}
		if time.Since(began) > 10*time.Second {
			t.Fatalf("counted %+v", now.Since(before))
		}
	}
}

func TestNamedCounts(t *testing.T) {
	const text = "TcpExt: A B\nTcpExt: 1 2\nIpExt: C\nIpExt: 3\n"
	got, err := namedCounts(text, "TcpExt:")
	if err != nil || len(got) != 2 || got["A"] != 1 || got["B"] != 2 {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []string{"TcpExt: A\nTcpExt: 1 2\n", "TcpExt: A\nTcpExt: x\n"} {
		if got, err := namedCounts(bad, "TcpExt:"); err == nil {
			t.Errorf("%q is %v", bad, got)
		}
	}
}

func TestBusy(t *testing.T) {
	const stat = "cpu  9 9 9 9 9 9 9 9\ncpu0 1 2 3 100 100 4 5 6 7 8\ncpu1 10 0 0 1 1 0 0 2\ncpu10 1 1 1 1 1 1 1 1\n"
	tests := []struct {
		cpus           []int
		worked, stolen time.Duration
	}{
		{[]int{0}, 150 * time.Millisecond, 60 * time.Millisecond},
		{[]int{1}, 100 * time.Millisecond, 20 * time.Millisecond},
		{[]int{0, 1}, 250 * time.Millisecond, 80 * time.Millisecond},
		{nil, 0, 0},
	}
	for _, test := range tests {
		got, err := busyOf(stat, test.cpus)
		if err != nil || got != (Busy{test.worked, test.stolen}) {
			t.Errorf("%v: %+v, %v", test.cpus, got, err)
		}
	}
	if _, err := busyOf(stat, []int{2}); err == nil {
		t.Error("a processor that is not there")
	}
	m, err := This()
	if err != nil {
		t.Fatal(err)
	}
	before, err := ReadBusy(m.CPUs...)
	if err != nil {
		t.Fatal(err)
	}
	for began := time.Now(); ; { // this loop, or another process, makes a processor work
		now, err := ReadBusy(m.CPUs...)
		if err != nil {
			t.Fatal(err)
		}
		if now.Since(before).Worked > 50*time.Millisecond {
			return
		}
		if time.Since(began) > 10*time.Second {
			t.Fatalf("worked %+v", now.Since(before))
		}
	}
}

func TestPin(t *testing.T) {
	m, err := This()
	if err != nil {
		t.Fatal(err)
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	affinity := func() (set unix.CPUSet) {
		if err := unix.SchedGetaffinity(0, &set); err != nil {
			t.Fatal(err)
		}
		return set
	}
	before := affinity()
	for _, cpus := range [][]int{nil, {m.CPUs[0]}, m.CPUs} {
		restore, err := Pin(cpus...)
		if err != nil {
			t.Fatal(err)
		}
		pinned := affinity()
		if cpus != nil && pinned.Count() != len(cpus) || !pinned.IsSet(m.CPUs[0]) {
			t.Errorf("%v: on %d processors", cpus, pinned.Count())
		}
		if err := restore(); err != nil || affinity() != before {
			t.Errorf("%v: not restored: %v", cpus, err)
		}
	}
	if _, err := Pin(1023); err == nil || affinity() != before {
		t.Errorf("on a processor that is not there: %v", err)
	}
}
