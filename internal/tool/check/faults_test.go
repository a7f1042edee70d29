//go:build linux

package check

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"lesson/internal/proof"
)

// A knownFault is a fault that was reported for a real program, in a small server that has
// no other: a file of testdata/faults, compiled with one macro.
type knownFault struct {
	name     string // as in FailedBy
	source   string // in testdata/faults
	macros   string // with which it is compiled
	reported string // where; "" if it is a variant of the one before
	fails    string // the case that it must fail
	cause    string // words of the cause that must be reported
}

var knownFaults = []knownFault{
	{
		"passes over EPOLLHUP", "loop.c", "HUP_WITH_INTEREST_0", "apple/cups#4605, oven-sh/bun#37928",
		"resources/idle-after-close", "an interest of 0",
	},
	{
		"passes over EPOLLHUP", "loop.c", "HUP_WITH_INTEREST_0", "",
		"resources/idle-reset-after-answer", "EPOLLERR or EPOLLHUP",
	},
	{
		"passes over end of file", "loop.c", "END_OF_FILE_PASSED_OVER", "",
		"resources/idle-unread-answer", "EPOLLRDHUP",
	},
	{
		"passes over bytes", "loop.c", "BYTES_PASSED_OVER", "",
		"resources/idle-unread-answer", "EPOLLIN",
	},
	{
		"rounds its time limits down", "loop.c", "TIMEOUT_IN_WHOLE_SECONDS",
		"ceph/ceph#60265, smol-rs/smol#109, oven-sh/bun#34780, niklata/ndhc#7",
		"resources/idle-lingering", "rounded down",
	},
	{
		"rounds its time limits down", "loop.c", "TIMEOUT_IN_WHOLE_SECONDS", "",
		"resources/idle-until-timeout", "rounded down",
	},
	{
		"never removes a deadline", "loop.c", "DEADLINE_NEVER_REMOVED", "",
		"resources/idle-for-long", "deadline that has passed",
	},
	{
		"looks at its timers only when idle", "loop.c", "TIMERS_ONLY_WHEN_IDLE",
		"389ds/389-ds-base#7842, varnishcache/varnish-cache#1023, SanderMertens/flecs#2104",
		"slow/timeout-under-load", "only when epoll_wait times out",
	},
	{
		"keeps lingering by descriptor", "loop.c", "TIMER_BY_DESCRIPTOR",
		"SanderMertens/flecs#2104, openziti/ziti-sdk-c#461", "slow/stale-timer", "by descriptor",
	},
	{
		"keeps deadlines by descriptor", "loop.c", "DEADLINE_BY_DESCRIPTOR", "",
		"slow/stale-timeout", "by descriptor",
	},
	{
		"reads or writes", "loop.c", "EDGE IN_ELSE_IF_OUT", "yedf2/handy#74",
		"slow/room-and-bytes", "else if",
	},
	{
		"arms no more to read", "loop.c", "ONESHOT ONESHOT_NOT_ARMED_TO_READ", "",
		"requests/split-terminator", "",
	},
	{
		"arms no more to send", "loop.c", "ONESHOT ONESHOT_NOT_ARMED_TO_SEND", "",
		"slow/full-send-buffer", "wait for EPOLLOUT",
	},
	{
		"arms no more to linger", "loop.c", "ONESHOT ONESHOT_NOT_ARMED_TO_LINGER NO_LINGER_TIMER", "",
		"resources/descriptors-answered", "",
	},
	{
		"arms its listener no more", "loop.c", "LISTENER_NOT_ARMED_AGAIN", "",
		"limits/descriptors-recovers", "After EMFILE",
	},
	{
		"closes at end of file first", "loop.c", "EDGE END_OF_FILE_COMES_FIRST", "",
		"disconnects/request-and-end-together", "the client is gone",
	},
	{
		"takes one completion for each wake-up", "loop.c", "ONE_COMPLETION_FOR_EACH_WAKEUP", "",
		"crowds/burst", "",
	},
	{
		"leaves its listener to a child", "loop.c", "LISTENER_INHERITED",
		"cesanta/mongoose#1302, yhirose/cpp-httplib#164, jolt-lang/jolt#596",
		"signals/restart", "inherited the listener",
	},
	{
		"leaves connections to a child", "loop.c", "CONNECTION_INHERITED", "",
		"resources/inherited-connections", "inherited the descriptor",
	},
	{
		"does not wait for its helpers", "loop.c", "HELPERS_NOT_WAITED_FOR", "",
		"resources/zombies", "waitpid",
	},
	{
		"does not wait for its processes", "threads.c", "PROCESSES_NOT_WAITED_FOR",
		"AgentD/websrv#1, fekberg/GoHttp#12, pgexporter/pgexporter#425",
		"resources/zombies", "waitpid",
	},
	{
		"does not join its threads", "threads.c", "THREADS_NOT_JOINED", "",
		"resources/zombies", "neither joined nor detached",
	},
	{
		"ends without a thread", "threads.c", "THREAD_FAILURE_ENDS",
		"ssh-mitm/ssh-mitm#171, perfsonar/pscheduler#1131",
		"limits/no-thread", "pthread_create",
	},
	{
		"keeps a client without a thread", "threads.c", "THREAD_FAILURE_PASSED_OVER",
		"rofl0r/microsocks#103", "limits/no-thread", "neither served nor closed",
	},
	{
		"reads on while its buffer is full", "threads.c", "READS_WHILE_FULL",
		"jianghushinian/todo-list#2, zachary-D/zlib#39", "requests/buffer-sizes", "next read blocks",
	},
	{
		"keeps requests in one place", "threads.c", "ONE_BUFFER", "sholsapp/gallocy#28", "slow/dripping", "static buffer",
	},
	{
		"asks for urgent data", "loop.c", "ASKS_FOR_URGENT_DATA", "capnproto/capnproto#374",
		"resources/idle-half-request", "MSG_OOB",
	},
	{
		"drops the answer at end of file", "loop.c", "END_OF_FILE_DROPS_ANSWER",
		"enghitalo/vanilla#103, MDA2AV/ioxide#164", "slow/half-close-while-full", "the client is gone",
	},
	{
		"lets close block", "loop.c", "LINGERS_IN_CLOSE", "cilium/proxy#1127, netty/netty#3268",
		"slow/unread-answer-others", "SO_LINGER",
	},
	{
		"blocks in a write, in one of its loops", "loop.c", "WORKERS=4 REUSEPORT BLOCKING_SEND",
		"memcached/memcached#477", "slow/full-send-buffer-others", "A write that blocks",
	},
	{
		"counts from the first byte", "loop.c", "DEADLINE_FROM_FIRST_BYTE",
		"hyperium/hyper#3454, actix/actix-web#928", "slow/timeout-silent", "from the first byte",
	},
	{
		"sets its timer once", "loop.c", "ONE_TIMER", "vibe-d/eventcore#172",
		"slow/timeout-silent", "for the next one",
	},
	{
		"shuts down what is overdue", "loop.c", "OVERDUE_NOT_CLOSED",
		"kirm/sip.js#96, nodejs/node-v0.x-archive#3613", "slow/timeout", "not closed",
	},
	{
		"leaks when it cannot send", "loop.c", "LEAKS_WHEN_SEND_FAILS",
		"jetty/jetty.project#634, jetty/jetty.project#2107", "resources/descriptors-unsent", "without close",
	},
	{
		"loses a thread when it cannot send", "threads.c", "POOL=8 SEND_FAILURE_ENDS_THREAD",
		"AdaCore/aws#2, dCache/oncrpc4j#68, eclipse-ee4j/glassfish-grizzly#2023",
		"resources/descriptors-unsent", "thread of the pool",
	},
	{
		"loses a worker when it cannot send", "loop.c", "WORKERS=2 STARTS_WORKERS_AGAIN DIES_OF_SIGPIPE",
		"bumptech/stud#13, bumptech/stud#26", "resources/descriptors-unsent", "SIGPIPE",
	},
	{
		"keeps the memory of resets", "loop.c", "KEEPS_MEMORY_OF_RESETS",
		"TritonDataCenter/node-fast#15, socketio/socket.io#67", "resources/memory-of-resets", "ECONNRESET",
	},
	{
		"waits for one process for each signal", "threads.c", "WAITS_FOR_ONE_PROCESS",
		"the-tcpdump-group/tcpdump#972, fuzzball-muck/fuzzball#58, nerves-project/erlinit#52",
		"resources/zombies", "do not queue",
	},
	{
		"does not read after a refusal", "loop.c", "REFUSED_NOT_DRAINED", "", "limits/oversize", "EPOLLIN",
	},
	{
		"ends when accept fails", "loop.c", "ACCEPT_FAILURE_ENDS",
		"panjf2000/gnet#453, tiny-http/tiny-http#283, MisterTea/EternalTerminal#756",
		"limits/accept-errors", "An error of accept",
	},
	{
		"waits for an event when accept fails", "loop.c", "ACCEPT_FAILURE_WAITS", "",
		"limits/accept-errors", "until it returns EAGAIN",
	},
	{
		"tries accept forever", "loop.c", "TRIES_ACCEPT_FOREVER", "", "limits/descriptors-recovers",
		"stays when it has succeeded",
	},
	{
		"looks at a flag, and then waits", "loop.c", "FLAG_OF_SIGNAL",
		"haproxy/haproxy#1841, eventmachine/eventmachine#347", "signals/before-the-wait", "signalfd",
	},
	{
		"drops unsent answers", "loop.c", "DROPS_UNSENT_AT_THE_END", "scality/cloudserver#550",
		"signals/terminate-unsent", "without sending",
	},
	{
		"waits for lingering clients", "loop.c", "WAITS_FOR_LINGERERS",
		"sebhildebrandt/http-graceful-shutdown#22", "signals/terminate-half-request", "waits for its clients",
	},
	{
		"never sleeps, in a worker", "loop.c", "WORKERS=2 NEVER_SLEEPS", "",
		"resources/idle-half-request", "",
	},
	{
		"leaks, in a worker", "loop.c", "WORKERS=2 LEAKS", "",
		"resources/descriptors-reset", "without close",
	},
	{
		"keeps its end back", "loop.c", "NO_SHUTDOWN", "docs/13-write-your-own.md, Break it",
		"requests/whole", "shutdown(SHUT_WR)",
	},
	{
		"reads one line for each event", "lines.py", "", "jruby/jruby#414",
		"requests/whole", "",
	},
}

// isKnown reports whether a name in FailedBy is that of a known fault.
func isKnown(name string) bool {
	return slices.ContainsFunc(knownFaults, func(f knownFault) bool { return f.name == name })
}

// ordinaryFaults is how many of the known faults an ordinary run judges.
const ordinaryFaults = 2

func TestKnownFaultsAreFound(t *testing.T) {
	t.Parallel()
	judged := knownFaults[:ordinaryFaults]
	if proof.Exhaustive() {
		judged = knownFaults
		t.Logf("exhaustive: all %d known faults, each in the case that finds it", len(judged))
	}
	for _, f := range judged {
		t.Run(f.name+" "+f.fails, func(t *testing.T) {
			t.Parallel()
			report, err := Run(t.Context(), Target{Command: f.command(t)}, Options{
				Only: []string{f.fails}, Patience: 2 * time.Second, Timeout: 3 * time.Second,
			})
			must(t, err)
			if r := report.Results[0]; r.Verdict != Fails || !strings.Contains(r.Cause, f.cause) {
				t.Errorf("%s %s, got %s, because %q, want %q", r.Verdict, r.Reason, r.Got, r.Cause, f.cause)
			}
		})
	}
}

// The servers of the known faults hold every case when they are compiled without a fault. The
// plain ones are among those of TestRightServersHold.
func TestServersOfKnownFaultsAreRight(t *testing.T) {
	proof.OnlyExhaustive(t, "the servers of the known faults without a fault; 20 s")
	for _, right := range []knownFault{
		{name: "edge-triggered", source: "loop.c", macros: "EDGE"},
		{name: "one event at a time", source: "loop.c", macros: "ONESHOT"},
		{name: "a helper of a moment", source: "loop.c", macros: "HELPER_OF_A_MOMENT"},
		{name: "two workers, each with a listener", source: "loop.c", macros: "WORKERS=2 REUSEPORT"},
	} {
		t.Run(right.name, func(t *testing.T) {
			t.Parallel()
			report, err := Run(t.Context(), Target{Command: right.command(t)}, Options{
				Timeout: 2 * time.Second, Only: addresses(func(c Case) bool { return !c.alone }),
			})
			must(t, err)
			for _, r := range report.Failed() {
				t.Errorf("%s: got %s, want %s\n%q", r.Address, r.Got, r.Want, r.Process)
			}
		})
	}
}

// The model of a server is seen from outside.
func TestModelIsGuessed(t *testing.T) {
	proof.OnlyExhaustive(t, "the models of servers with workers and of a pool; 10 s")
	for _, server := range []struct {
		macros string
		source string
		want   Model
	}{
		{"", "loop.c", EventLoop},
		{"WORKERS=1", "loop.c", EventLoop},
		{"WORKERS=2", "loop.c", EventLoops},
		{"WORKERS=4 REUSEPORT", "loop.c", EventLoops},
		{"", "threads.c", Threaded},
		{"PROCESSES_NOT_WAITED_FOR", "threads.c", Threaded},
		{"POOL=4", "threads.c", Pool},
		{"POOL=16", "threads.c", Pool},
	} {
		t.Run(server.source+" "+server.macros, func(t *testing.T) {
			t.Parallel()
			f := knownFault{source: server.source, macros: server.macros}
			report, err := Run(t.Context(), Target{Command: f.command(t)}, Options{
				Only: []string{"requests/whole"},
			})
			must(t, err)
			if report.Model != server.want || report.Results[0].Verdict != Holds {
				t.Errorf("%s, %s, want %s (%s)", report.Model, report.Results[0].Verdict, server.want, report.Seen)
			}
		})
	}
}

// command returns the command that starts the server, which it compiles first.
func (f knownFault) command(t *testing.T) []string {
	t.Helper()
	source := f.source
	if filepath.Dir(source) == "." {
		source = filepath.Join("testdata", "faults", source)
	}
	if filepath.Ext(source) == ".py" {
		return []string{available(t, "python3"), source, "{port}"}
	}
	program := filepath.Join(t.TempDir(), "server")
	options := []string{"-O1", "-w", "-pthread", "-o", program, source}
	for _, macro := range strings.Fields(f.macros) {
		options = append(options, "-D"+macro)
	}
	if out, err := exec.Command(available(t, "gcc"), options...).CombinedOutput(); err != nil {
		t.Fatalf("gcc: %v\n%s", err, out)
	}
	return []string{program, "{port}", "{seconds}"}
}

// available returns the path of a program. The test is skipped where it is not installed,
// but not in continuous integration.
func available(t *testing.T, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil && os.Getenv("CI") == "" {
		t.Skip(err)
	}
	must(t, err)
	return path
}
