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

// A behaviour is what a server does, in words that start with its row.
type behaviour struct {
	name string
	who  func(lesson.Lesson) bool
	test func(*testing.T, lesson.Lesson)
}

// Who a behaviour is asked of.

func every(lesson.Lesson) bool { return true }

// many is who serves many clients at a time: steps 3 to 5.
func many(l lesson.Lesson) bool { return l.Step >= 3 }

// again is who serves one client after the other, and another one still.
func again(l lesson.Lesson) bool { return l.Step >= 2 }

// oneByOne is who serves one client at a time, and then the next: step 2.
func oneByOne(l lesson.Lesson) bool { return l.Step == 2 }

// eventLoop is who waits in epoll_wait: steps 4 and 5.
func eventLoop(l lesson.Lesson) bool { return l.Step >= 4 }

// blocks is who waits in a blocking accept4, read or send: steps 1 to 3.
func blocks(l lesson.Lesson) bool { return l.Step <= 3 && !l.Untraced }

// traced is whose system calls go through kernel.Kernel: all but netpoll's.
func traced(l lesson.Lesson) bool { return !l.Untraced }

// only is who has one of these names.
func only(names ...string) func(lesson.Lesson) bool {
	return func(l lesson.Lesson) bool { return slices.Contains(names, l.Name) }
}

var contract = slices.Concat(
	answering, ending, stopping, failing, starving, waiting, sharing,
)

func TestBehaviour(t *testing.T) {
	for _, l := range lesson.WithVariants() {
		t.Run(l.Name, func(t *testing.T) {
			t.Parallel()
			for _, b := range contract {
				if !b.who(l) {
					continue
				}
				t.Run(b.name, func(t *testing.T) {
					t.Parallel()
					b.test(t, l)
				})
			}
		})
	}
}

// TestMain lets the tests, which mostly wait, run side by side on more threads
// than there are processors, and looks at what all of them leave behind.
func TestMain(m *testing.M) {
	const abreast = 16
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
