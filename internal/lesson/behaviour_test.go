//go:build linux

// The contract of all five lessons, row by row: B1 to B17 of docs/contract.md. Every
// lesson runs through the same table, against real sockets on the loopback.
package lesson_test

import (
	"flag"
	"fmt"
	"net"
	"os"
	"runtime"
	"slices"
	"strconv"
	"testing"
	"time"

	"lesson/internal/lesson"
)

// What the tests send and expect, spelled out here once more: a test that took
// them from the code under test would agree with any mistake in it.
const (
	request  = "GET / HTTP/1.0\r\nHost: x\r\n\r\n"
	response = "HTTP/1.0 200 OK\r\n" +
		"Date: Mon, 1 Jan 1996 01:01:01 GMT\r\n" +
		"Content-Type: text/plain\r\n" +
		"Content-Length: 13\r\n" +
		"\r\n" +
		"Hello, world!"
	tooLarge = "HTTP/1.0 431 Request Header Fields Too Large\r\n" +
		"Content-Type: text/plain\r\n" +
		"Content-Length: 23\r\n" +
		"\r\n" +
		"The request is too big."
	maxRequest = 8192
)

// A behaviour tests a rule, which its name states after the rule's number.
type behaviour struct {
	name string
	who  func(lesson.Lesson) bool
	test func(*T, lesson.Lesson)
}

// every selects all lessons.
func every(lesson.Lesson) bool { return true }

// many selects the lessons that serve many clients at a time.
func many(l lesson.Lesson) bool {
	return l.Model == lesson.Threaded || l.Model == lesson.EventLoop
}

// again selects the lessons that serve one client after another.
func again(l lesson.Lesson) bool { return l.Model != lesson.Blocking }

// oneByOne selects the lessons that serve one client at a time, and then the next.
func oneByOne(l lesson.Lesson) bool { return l.Model == lesson.Loop }

// threads selects the lessons that bound their threads.
func threads(l lesson.Lesson) bool { return l.Model == lesson.Threaded }

// eventLoop selects the lessons that wait for all clients in one call.
func eventLoop(l lesson.Lesson) bool { return l.Waits != "" }

// level selects the event loops to which an event is reported while its cause lasts.
func level(l lesson.Lesson) bool { return eventLoop(l) && !l.Edge }

// epolls selects the lessons that keep an interest list in the kernel.
func epolls(l lesson.Lesson) bool { return l.Waits == "epoll_wait" }

// levelEpolls selects the lessons that keep an interest list and change it.
func levelEpolls(l lesson.Lesson) bool { return level(l) && epolls(l) }

// blocks selects the lessons that wait in a blocking accept4, read or send.
func blocks(l lesson.Lesson) bool { return !eventLoop(l) && traced(l) }

// traced selects the lessons whose system calls go through kernel.Kernel.
func traced(l lesson.Lesson) bool { return !l.Untraced }

var contract = slices.Concat(
	answering, ending, stopping, failing, starving, waiting, sharing,
)

func TestBehaviour(t *testing.T) {
	for _, l := range lesson.All() {
		t.Run(l.Name, func(t *testing.T) {
			t.Parallel()
			for _, b := range contract {
				if !b.who(l) {
					continue
				}
				t.Run(b.name, func(t *testing.T) {
					t.Parallel()
					b.test(onLinux(t), l)
				})
			}
		})
	}
}

// TestMain lets the tests, which mostly wait, run side by side on more threads
// than there are processors, and looks at what all of them leave behind.
func TestMain(m *testing.M) {
	const abreast = 48
	flag.Parse()
	runtime.GOMAXPROCS(max(abreast, runtime.GOMAXPROCS(0)))
	if err := flag.Set("test.parallel", strconv.Itoa(abreast)); err != nil {
		panic(err)
	}
	before := holdingNow()
	status := m.Run()
	after := holdingNow()
	for end := time.Now().Add(patience); after != before && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
		after = holdingNow()
	}
	if after != before {
		fmt.Printf("leaked: %+v before all tests, %+v after\n", before, after)
		status = max(status, 1)
	}
	os.Exit(status)
}

// holdingNow is what the process holds once package net, which keeps an
// interest list of its own from the first socket on, has one.
func holdingNow() holding {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err == nil {
		err = l.Close()
	}
	if err != nil {
		panic(err)
	}
	return holds()
}
