//go:build linux

package proc

// What a result was measured on, and how many connections this machine lets one program
// make: the limits that a measurement may run into.

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A Machine describes the computer on which a figure was measured.
type Machine struct {
	CPU    string `json:"cpu"`  // as /proc/cpuinfo names it
	CPUs   []int  `json:"cpus"` // the processors that this program may use
	Memory int64  `json:"memory_bytes"`
	Kernel string `json:"kernel"` // uname -r
	Go     string `json:"go"`
}

// This returns the machine that the program runs on.
func This() (Machine, error) {
	m := Machine{Go: runtime.Version()}
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return m, fmt.Errorf("uname: %w", err)
	}
	m.Kernel = unix.ByteSliceToString(name.Release[:])
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return m, fmt.Errorf("sysinfo: %w", err)
	}
	m.Memory = int64(info.Totalram) * int64(info.Unit)
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return m, fmt.Errorf("sched_getaffinity: %w", err)
	}
	for cpu := range len(set) * 64 {
		if set.IsSet(cpu) {
			m.CPUs = append(m.CPUs, cpu)
		}
	}
	var err error
	m.CPU, err = cpuName()
	return m, err
}

// Pin keeps the calling thread on these processors until restore is called; with none
// given it does nothing. A process that the thread starts meanwhile stays there:
// sched_setaffinity(2). Lock the goroutine to its thread first.
func Pin(cpus ...int) (restore func() error, err error) {
	if len(cpus) == 0 {
		return func() error { return nil }, nil
	}
	var before, wanted unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return nil, fmt.Errorf("sched_getaffinity: %w", err)
	}
	for _, cpu := range cpus {
		wanted.Set(cpu)
	}
	if err := unix.SchedSetaffinity(0, &wanted); err != nil {
		return nil, fmt.Errorf("processors %v: sched_setaffinity: %w", cpus, err)
	}
	return func() error {
		if err := unix.SchedSetaffinity(0, &before); err != nil {
			return fmt.Errorf("sched_setaffinity: %w", err)
		}
		return nil
	}, nil
}

// cpuName returns "" if the kernel does not name the processor, as on many arm64 machines.
func cpuName() (string, error) {
	file, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return "", err
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		key, value, _ := strings.Cut(lines.Text(), ":")
		if strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value), nil
		}
	}
	return "", lines.Err()
}

func (m Machine) String() string {
	cpu := m.CPU
	if cpu == "" {
		cpu = "processor unknown"
	}
	return fmt.Sprintf("%d × %s, %.0f GiB, Linux %s, %s",
		len(m.CPUs), cpu, float64(m.Memory)/(1<<30), m.Kernel, m.Go)
}

// Limits is what bounds the number of connections.
type Limits struct {
	Descriptors int `json:"descriptors"`    // that this program may have open: RLIMIT_NOFILE
	Ports       int `json:"ports"`          // ephemeral ports for each pair of addresses and server's port
	TimeWait    int `json:"time_wait"`      // connections in TIME_WAIT now; each keeps a port
	MostWaiting int `json:"most_time_wait"` // tcp_max_tw_buckets: beyond it the kernel keeps none
	Backlog     int `json:"somaxconn"`      // the longest accept queue
}

// ReadLimits asks for them as they are now. The Go runtime has raised the soft limit
// of descriptors to the hard one.
func ReadLimits() (Limits, error) {
	var l Limits
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		return l, fmt.Errorf("getrlimit: %w", err)
	}
	l.Descriptors = int(min(files.Cur, 1<<31-1))
	var first, last int
	err := errors.Join(
		scan("/proc/sys/net/ipv4/ip_local_port_range", &first, &last),
		scan("/proc/sys/net/core/somaxconn", &l.Backlog),
		scan("/proc/sys/net/ipv4/tcp_max_tw_buckets", &l.MostWaiting),
	)
	l.Ports = last - first + 1
	if err != nil {
		return l, err
	}
	l.TimeWait, err = TCPSockets("tw")
	return l, err
}

func scan(file string, values ...any) error {
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // not shown in every container: left 0, unknown
	}
	if err != nil {
		return err
	}
	if _, err := fmt.Sscan(string(text), values...); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return nil
}

// TCPSockets returns a number of the line "TCP:" in /proc/net/sockstat, of this network
// namespace and both families: "tw" is connections in TIME_WAIT, "mem" is the pages
// that hold what has been received or not sent yet.
func TCPSockets(name string) (int, error) {
	text, err := os.ReadFile("/proc/net/sockstat")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		rest, ok := strings.CutPrefix(line, "TCP:")
		if !ok {
			continue
		}
		fields := strings.Fields(rest)
		for i := 0; i+1 < len(fields); i += 2 {
			if fields[i] == name {
				n := 0
				_, err := fmt.Sscan(fields[i+1], &n)
				return n, err
			}
		}
	}
	return 0, errors.New("/proc/net/sockstat has no TCP: " + name)
}

// Source returns a client's own address, the n-th of those over which many clients
// are spread: 127.1.0.1, 127.1.0.2, … All of 127.0.0.0/8 is this machine (RFC 1122,
// 3.2.1.3), and every one of them has ephemeral ports of its own.
func Source(n int) netip.Addr {
	n %= 1 << 16
	return netip.AddrFrom4([4]byte{127, 1, byte(n >> 8), byte(n)}).Next()
}

// Counters is what the kernel has counted, since it was started and for the whole
// machine, of what makes clients wait or be forgotten. See
// Documentation/networking/snmp_counter.rst.
type Counters struct {
	// QueueFull is clients that found an accept queue full (ListenOverflows): each
	// tries again, the first time after a second.
	QueueFull int64 `json:"accept_queue_full"`
	// ConnectAgain is SYN segments sent again (TCPSynRetrans).
	ConnectAgain int64 `json:"syn_sent_again"`
	// NoTimeWait is connections that should have gone to TIME_WAIT and were
	// forgotten at once, for tcp_max_tw_buckets were there (TCPTimeWaitOverflow).
	NoTimeWait int64 `json:"time_wait_overflow"`
}

// ReadCounters reads /proc/net/netstat. What a kernel does not count is 0.
func ReadCounters() (Counters, error) {
	counts, err := TCPExt()
	return Counters{
		QueueFull:    counts["ListenOverflows"],
		ConnectAgain: counts["TCPSynRetrans"],
		NoTimeWait:   counts["TCPTimeWaitOverflow"],
	}, err
}

// TCPExt returns all counters of TCP beyond the standard ones, of this network namespace:
// the lines "TcpExt:" of /proc/net/netstat, which nstat(8) shows.
func TCPExt() (map[string]int64, error) {
	text, err := os.ReadFile("/proc/net/netstat")
	if err != nil {
		return nil, err
	}
	return namedCounts(string(text), "TcpExt:")
}

// Since returns what has been counted since before.
func (c Counters) Since(before Counters) Counters {
	return Counters{
		QueueFull:    c.QueueFull - before.QueueFull,
		ConnectAgain: c.ConnectAgain - before.ConnectAgain,
		NoTimeWait:   c.NoTimeWait - before.NoTimeWait,
	}
}

// namedCounts takes apart two lines that begin with key: names, then numbers.
func namedCounts(text, key string) (map[string]int64, error) {
	var names, numbers []string
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, key); ok {
			names, numbers = numbers, strings.Fields(rest)
		}
	}
	if len(names) != len(numbers) {
		return nil, fmt.Errorf("%s has %d names and %d numbers", key, len(names), len(numbers))
	}
	counts := make(map[string]int64, len(names))
	for i, name := range names {
		n, err := strconv.ParseInt(numbers[i], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", key, name, err)
		}
		counts[name] = n
	}
	return counts, nil
}

// A Busy holds how long processors have worked, in steps of 10 ms each.
type Busy struct {
	Worked time.Duration // for any program, or for the kernel
	Stolen time.Duration // could have, but the hypervisor gave the time to another machine
}

// ReadBusy sums up how long these processors have worked since they were started:
// the lines cpuN of /proc/stat, proc_stat(5).
func ReadBusy(cpus ...int) (Busy, error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return Busy{}, err
	}
	return busyOf(string(text), cpus)
}

func busyOf(stat string, cpus []int) (Busy, error) {
	const tick = 10 * time.Millisecond // USER_HZ is 100 on all machines that Go knows
	var b Busy
	for _, cpu := range cpus {
		var user, nice, system, idle, iowait, irq, softirq, steal time.Duration
		name := fmt.Sprintf("cpu%d ", cpu)
		at := strings.Index(stat, "\n"+name)
		if at < 0 {
			return b, fmt.Errorf("/proc/stat has no processor %d", cpu)
		}
		_, err := fmt.Sscan(stat[at+1+len(name):],
			&user, &nice, &system, &idle, &iowait, &irq, &softirq, &steal)
		if err != nil {
			return b, fmt.Errorf("/proc/stat, processor %d: %w", cpu, err)
		}
		b.Worked += (user + nice + system + irq + softirq) * tick
		b.Stolen += steal * tick
	}
	return b, nil
}

// Since returns how long they have worked since before.
func (b Busy) Since(before Busy) Busy {
	return Busy{b.Worked - before.Worked, b.Stolen - before.Stolen}
}
