//go:build linux

package machine

import (
	"net"
	"net/netip"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"
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
