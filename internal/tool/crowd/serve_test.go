//go:build linux

package crowd

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lesson/internal/child"
	"lesson/internal/lesson"
	"lesson/internal/proof"
	lessons "lesson/internal/server"
)

// The servers that the tests measure, and the crowds, are this test program, started
// again: its first argument says as what.
func TestMain(m *testing.M) {
	if len(os.Args) < 2 {
		os.Exit(runTests(m))
	}
	var err error
	switch addr := os.Args[len(os.Args)-1]; os.Args[1] {
	case "lesson":
		err = runLesson(os.Args[2], addr)
	case "wrong":
		err = runWrong(os.Args[2], addr)
	case "accept":
		err = AcceptOnly(netip.MustParseAddrPort(addr))
	case "hold": // hold --json --first N ADDR 0
		first, bad := strconv.Atoi(os.Args[4])
		silent := NewSilent(netip.MustParseAddrPort(os.Args[5]), first)
		err = errors.Join(bad, Hold(context.Background(), silent, 0, os.Stdin, Told(os.Stdout)))
	default:
		os.Exit(runTests(m))
	}
	if err != nil {
		log.Fatal(err)
	}
}

// started is the program that the tests start.
var started string

// runTests runs the tests, against servers without the race detector, whose shadow of
// all memory would be measured too.
func runTests(m *testing.M) int {
	program, remove, err := proof.Program()
	if err != nil {
		log.Fatal(err)
	}
	defer remove()
	started = program
	// The tests wait, most of the time: all of them can, side by side.
	if err := flag.Set("test.parallel", "32"); err != nil {
		log.Fatal(err)
	}
	status := m.Run()
	if left := children(); len(left) > 0 {
		log.Printf("processes are left: %v", left)
		status = 1
	}
	return status
}

// children returns the processes that are ours, also those that have ended and were
// not waited for.
func children() []string {
	files, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil || len(files) == 0 {
		log.Fatalf("no list of children: %v", err)
	}
	var all []string
	for _, file := range files {
		// A thread that has ended meanwhile has handed its children to another.
		text, _ := os.ReadFile(file)
		all = append(all, strings.Fields(string(text))...)
	}
	return all
}

func runLesson(name, addr string) error {
	l, err := lesson.Find(name)
	if err != nil {
		return err
	}
	backlog := 4096
	if text := os.Getenv("CROWD_TEST_BACKLOG"); text != "" {
		if backlog, err = strconv.Atoi(text); err != nil {
			return err
		}
	}
	return lesson.Run{
		Lesson: l, Log: io.Discard,
		Options: lessons.Options{Addr: netip.MustParseAddrPort(addr), Backlog: backlog, MaxConns: 1000},
	}.Do()
}

// program is a server of the tests: this program as what it says.
func program(name string, as ...string) Target {
	return Target{Program: child.Program{
		Name: name, Command: append(append([]string{started}, as...), "{addr}"),
	}}
}

func lessonProgram(name string) Target {
	t := program(name, "lesson", name)
	l, err := lesson.Find(name)
	if err != nil {
		log.Fatal(err)
	}
	t.OneByOne = l.Model == lesson.Loop
	return t
}

// runWrong is a server with a goroutine for each connection, through package net,
// and with one fault; "none" for none.
func runWrong(fault, addr string) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, unix.SIGTERM)
	go func() { <-stop; os.Exit(0) }()
	if fault == "threads" {
		debug.SetMaxThreads(60)
	}
	var spin sync.Once
	for {
		conn, err := l.Accept()
		if errors.Is(err, unix.EMFILE) {
			time.Sleep(10 * time.Millisecond)
			continue
		}
		if err != nil {
			return err
		}
		if fault == "spins" {
			spin.Do(func() {
				const threads = 4 // it gets its share of a busy machine, too
				runtime.GOMAXPROCS(1 + threads)
				for range threads {
					go func() {
						//lint:ignore SA5002 that is the fault
						for {
						}
					}()
				}
			})
		}
		go serveWrong(fault, conn.(*net.TCPConn))
	}
}

func serveWrong(fault string, conn *net.TCPConn) {
	defer conn.Close()
	buffer := make([]byte, 4096)
	if fault == "hoards" {
		buffer = make([]byte, 64<<10)
		for i := range buffer {
			buffer[i] = 1 // memory that is not touched is not there
		}
	}
	if fault == "threads" {
		file, err := conn.File() // blocking: a thread waits in read
		if err != nil {
			log.Fatal(err)
		}
		defer file.Close()
		if err := syscall.SetNonblock(int(file.Fd()), false); err != nil {
			log.Fatal(err)
		}
		if _, err := syscall.Read(int(file.Fd()), buffer); err != nil {
			return
		}
	} else if _, err := conn.Read(buffer); err != nil {
		return
	}
	fmt.Fprint(conn, "HTTP/1.0 200 OK\r\n\r\nHello, world!")
}
