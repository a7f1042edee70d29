//go:build linux

package check

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"lesson/internal/lesson"
	"lesson/internal/proof"
	"lesson/internal/protocol"
	lessons "lesson/internal/server"
)

// The servers that the tests judge are this test program (judged), started again
// with one of these in its environment.
const (
	serveLesson = "CHECK_TEST_LESSON" // a lesson, by name
	serveWrong  = "CHECK_TEST_WRONG"  // a server with that fault; "none" for none
	withTimeout = "CHECK_TEST_TIMEOUT"
)

func TestMain(m *testing.M) {
	addr := os.Args[len(os.Args)-1]
	var err error
	switch {
	case os.Getenv(serveLesson) != "":
		err = runLesson(os.Getenv(serveLesson), addr)
	case os.Getenv(serveWrong) != "":
		err = (&wrong{fault: os.Getenv(serveWrong)}).run(addr)
	case os.Getenv(serveFramework) != "":
		err = runFramework(os.Getenv(serveFramework), addr)
	default:
		os.Exit(runTests(m))
	}
	if err != nil {
		log.Fatal(err)
	}
}

// judged is the program that child starts.
var judged string

// runTests runs the tests, against servers without the race detector: the shadow of a
// server that is right grows, and cases judge memory.
func runTests(m *testing.M) int {
	program, remove, err := proof.Program()
	if err != nil {
		log.Fatal(err)
	}
	defer remove()
	judged = program
	if !proof.Exhaustive() { // which judges what needs the machine for itself
		const abreast = 3 // for each processor; mostly, they wait
		if err := flag.Set("test.parallel", strconv.Itoa(abreast*runtime.NumCPU())); err != nil {
			log.Fatal(err)
		}
	}
	return m.Run()
}

func runLesson(name, addr string) error {
	l, err := lesson.Find(name)
	if err != nil {
		return err
	}
	timeout, err := time.ParseDuration(os.Getenv(withTimeout))
	if err != nil {
		return err
	}
	return lesson.Run{
		Lesson: l, Log: os.Stderr,
		Options: lessons.Options{
			Addr: netip.MustParseAddrPort(addr), Backlog: 4096, MaxConns: 1000, Timeout: timeout, Requests: os.Stdout,
		},
	}.Do()
}

// command is a command for the target: env(1) becomes the server.
func command(key, value string) []string {
	return []string{"env", key + "=" + value, withTimeout + "={seconds}s", judged, "{addr}"}
}

// fillsACache is a server that keeps what it needs for a while, and no more: no fault.
const fillsACache = "fills a cache"

// worksForAWhile is a server that has something to do after a client has left: no fault.
const worksForAWhile = "works for a while"

// work makes system calls that have to do with no client, and then no more.
func work() {
	for began := time.Now(); time.Since(began) < late; {
		_ = unix.Getppid()
	}
}

// Servers that answer in their own words: one waits for CR LF, which is no fault then, and
// one never answers what has come without CR.
const (
	crlfInOwnWords = "CR LF only, in its own words"
	deafInOwnWords = "never answers, in its own words"
	lineInOwnWords = "answers an empty line, in its own words"
)

// wrong is a server with one fault: a goroutine for each connection through
// package net, and right in all but that.
type wrong struct {
	fault    string
	listener *net.TCPListener
	stopping chan struct{}
	clients  sync.WaitGroup
	mu       sync.Mutex
	reading  map[*net.TCPConn]bool
	pool     chan struct{} // places, by one fault
	hoard    [][]byte      // what is never given back, by another
	last     []byte        // what the last one sent who left
	open     []*os.File
	accepted int
}

func (w *wrong) is(fault string) bool { return w.fault == fault }

func (w *wrong) run(addr string) error {
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		if !w.is("no SO_REUSEADDR") {
			return nil
		}
		return raw.Control(func(fd uintptr) {
			if err := unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 0); err != nil {
				log.Fatal(err)
			}
		})
	}}
	l, err := config.Listen(context.Background(), "tcp", addr)
	if err != nil {
		return err
	}
	w.listener = l.(*net.TCPListener)
	w.stopping = make(chan struct{})
	w.reading = map[*net.TCPConn]bool{}
	w.pool = make(chan struct{}, 4)
	signals := make(chan os.Signal, 1)
	switch w.fault {
	case "no handler of signals", "prints, and has no handler":
	case "deaf to SIGTERM":
		signal.Ignore(unix.SIGTERM)
	case "fails on SIGINT":
		signal.Notify(signals, unix.SIGINT)
		go func() { <-signals; os.Exit(130) }()
	default:
		signal.Notify(signals, unix.SIGTERM, unix.SIGINT)
		go func() { <-signals; w.stop() }()
	}
	if w.is("leaves its listener to a helper") {
		file, err := w.listener.File()
		if err != nil {
			return err
		}
		helper := exec.Command("sh", "-c", "trap '' TERM; sleep 60")
		helper.ExtraFiles = []*os.File{file}
		// Start makes the descriptors that it hands on blocking, and so ours.
		if err := errors.Join(helper.Start(), unix.SetNonblock(int(file.Fd()), true), file.Close()); err != nil {
			return err
		}
	}
	if w.is("spins") {
		go func() {
			for turns := 0; ; turns++ { // without a system call
			}
		}()
	}
	if w.is("polls") {
		go func() {
			for {
				_ = unix.Nanosleep(&unix.Timespec{Nsec: 100_000}, nil)
			}
		}()
	}
	return w.accept()
}

func (w *wrong) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	close(w.stopping)
	_ = w.listener.Close()
	if w.is("waits for its clients") {
		return
	}
	for c := range w.reading {
		_ = c.CloseRead()
	}
}

func (w *wrong) accept() error {
	for {
		c, err := w.listener.AcceptTCP()
		switch {
		case err == nil:
		case errors.Is(err, net.ErrClosed):
			w.clients.Wait()
			return nil
		case w.is("ends without descriptors"):
			return err
		case w.is("gives up without descriptors"):
			select {}
		case w.is("spins without descriptors"):
			continue
		default:
			_ = unix.Nanosleep(&unix.Timespec{Nsec: 50_000_000}, nil)
			continue
		}
		if w.accepted++; w.accepted == 50 && w.is("forgets the fiftieth") {
			defer c.Close() // open until the end, or the runtime closes it
			continue
		}
		if w.is("reads where it accepts") {
			w.peek(c)
		}
		w.clients.Go(func() { w.serve(c) })
	}
}

func (w *wrong) serve(c *net.TCPConn) {
	defer c.Close()
	if w.is("one thread each") {
		runtime.LockOSThread()
		file, err := c.File() // makes it block: a thread is blocked in each read
		if err != nil {
			return
		}
		defer file.Close()
		var buffer [1]byte
		if _, _, err := unix.Recvfrom(int(file.Fd()), buffer[:], unix.MSG_PEEK); err != nil {
			return
		}
	}
	if w.is("a small pool") {
		w.pool <- struct{}{}
		defer func() { <-w.pool }()
	}
	w.mu.Lock()
	w.reading[c] = true
	select {
	case <-w.stopping:
		_ = c.CloseRead()
	default:
	}
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		delete(w.reading, c)
		w.mu.Unlock()
	}()

	request, ok := w.read(c)
	if !ok {
		return
	}
	w.answer(c, request)
	w.linger(c)
}

// read returns the request and whether there is anything to answer.
func (w *wrong) read(c *net.TCPConn) ([]byte, bool) {
	timeout, err := time.ParseDuration(os.Getenv(withTimeout))
	if err != nil {
		timeout = time.Minute
	}
	deadline := time.Now().Add(timeout)
	if w.is("closes the idle") {
		deadline = time.Now().Add(time.Millisecond)
	}
	var request []byte
	if w.is("begins where the last one ended") {
		w.mu.Lock()
		request, w.last = w.last, nil
		w.mu.Unlock()
	}
	buffer := make([]byte, 2048)
	for {
		if !w.is("no timeout") {
			if w.is("dripping extends the timeout") {
				deadline = time.Now().Add(timeout)
			}
			_ = c.SetReadDeadline(deadline)
		}
		n, err := c.Read(buffer)
		if n == 0 && len(request) == 0 && errors.Is(err, io.EOF) && w.is("ends when nothing comes") {
			log.Fatal("nothing came")
		}
		if errors.Is(err, unix.ECONNRESET) && w.is("ends on a reset") {
			log.Fatal(err)
		}
		request = append(request, buffer[:n]...)
		if w.whole(request) {
			return request, w.stillThere(c)
		}
		if len(request) > protocol.MaxRequest && !w.is("no bound") {
			_, _ = c.Write(protocol.TooLarge)
			w.linger(c)
			return nil, false
		}
		if err != nil {
			if w.is(worksForAWhile) {
				work()
			}
			w.mu.Lock()
			if w.is("keeps what leavers sent") {
				w.hoard = append(w.hoard, bytes.Repeat(request, 500))
			}
			w.last = request
			w.mu.Unlock()
			return nil, false
		}
	}
}

// peek waits for the first byte without taking it.
func (w *wrong) peek(c *net.TCPConn) {
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Read(func(fd uintptr) bool {
		var one [1]byte
		_, _, err := unix.Recvfrom(int(fd), one[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		return err != unix.EAGAIN
	})
}

func (w *wrong) whole(request []byte) bool {
	switch {
	case w.is("CR LF only"), w.is(crlfInOwnWords):
		return bytes.Contains(request, []byte("\r\n\r\n"))
	case w.is("first read"):
		return len(request) > 0
	case bytes.HasPrefix(request, []byte(emptyLine)) && (w.is("answers an empty line") || w.is(lineInOwnWords)):
		return true
	}
	return bytes.Contains(request, []byte("\n\r\n")) || bytes.Contains(request, []byte("\n\n"))
}

// stillThere is a question that one fault asks: has the client half-closed?
func (w *wrong) stillThere(c *net.TCPConn) bool {
	if !w.is("half-closed is gone") {
		return true
	}
	_ = c.SetReadDeadline(time.Now().Add(proof.Patience)) // or it has not half-closed yet
	_, err := c.Read(make([]byte, 1))
	return !errors.Is(err, io.EOF)
}

func (w *wrong) answer(c *net.TCPConn, request []byte) {
	response := protocol.Response
	switch w.fault {
	case "text only":
		if !utf8.Valid(request) {
			log.Fatal("that is not UTF-8")
		}
	case "own words", crlfInOwnWords, deafInOwnWords, lineInOwnWords:
		response = []byte("HTTP/1.0 200 OK\r\n\r\nHello, you!")
	case "answers nothing":
		response = nil
	case "prints as it comes", "prints, and has no handler":
		fmt.Printf("%s\n", request)
		_ = os.Stdout.Sync()
	case "answers each":
		response = bytes.Repeat(response, strings.Count(string(request), "\r\n\r\n"))
	case "keeps every request", fillsACache:
		w.mu.Lock()
		if len(w.hoard) < rounds+manyRounds || w.fault != fillsACache {
			w.hoard = append(w.hoard, bytes.Repeat([]byte("x"), 16<<10))
		}
		w.mu.Unlock()
	case "keeps every descriptor":
		if file, err := c.File(); err == nil {
			w.mu.Lock()
			w.open = append(w.open, file)
			w.mu.Unlock()
		}
	case "tries again and again":
		w.push(c, response)
		return
	}
	if !bytes.Contains(request, []byte("\r")) {
		w.bide()
	}
	_, err := c.Write(response)
	if err != nil && w.is("ends when a client is gone") {
		log.Fatal(err)
	}
	if errors.Is(err, unix.EPIPE) && w.is("dies of SIGPIPE") {
		log.Fatal(err) // as a program in C would without a word
	}
}

// late is after what time a server answers that answers late.
const late = time.Second

// bide waits, by some faults, before a request with bare newlines is answered.
func (w *wrong) bide() {
	other, asks := strings.CutPrefix(w.fault, "asks ")
	switch {
	case w.is("never answers"), w.is(deafInOwnWords):
		select {}
	case w.is("waits for a time"):
		time.Sleep(late)
	case w.is("waits for a timer"):
		waitForTimer()
	case asks:
		if c, err := net.Dial("tcp", other); err == nil {
			_, _ = io.Copy(io.Discard, c) // until it closes
		}
	}
}

// waitForTimer waits in a read that has no time limit.
func waitForTimer() {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC)
	if err != nil {
		log.Fatal(err)
	}
	defer unix.Close(fd)
	value := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(late))}
	if err := unix.TimerfdSettime(fd, 0, &value, nil); err != nil {
		log.Fatal(err)
	}
	if _, err := unix.Read(fd, make([]byte, 8)); err != nil {
		log.Fatal(err)
	}
}

// push sends without ever waiting for room.
func (w *wrong) push(c *net.TCPConn, response []byte) {
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	for len(response) > 0 {
		n, failed := 0, error(nil)
		_ = raw.Write(func(fd uintptr) bool {
			n, failed = unix.SendmsgN(int(fd), response, nil, nil, unix.MSG_NOSIGNAL)
			return true
		})
		if failed != nil && failed != unix.EAGAIN {
			return
		}
		response = response[max(n, 0):]
	}
}

func (w *wrong) linger(c *net.TCPConn) {
	if w.is("closes at once") {
		return
	}
	if err := c.CloseWrite(); err != nil && w.is("ends when a client is gone") {
		log.Fatal(err)
	}
	switch {
	case w.is("lingers forever"):
		_ = c.SetReadDeadline(time.Time{})
	case w.is("ends when a client is gone"): // however late it goes
		_ = c.SetReadDeadline(time.Now().Add(proof.Patience))
	default:
		_ = c.SetReadDeadline(time.Now().Add(lessons.LingerTime))
	}
	if w.is("lingers again with each byte") {
		for n, err := 1, error(nil); n > 0 && err == nil; {
			_ = c.SetReadDeadline(time.Now().Add(lessons.LingerTime))
			n, err = c.Read(make([]byte, 1024))
		}
		return
	}
	_, err := io.CopyN(io.Discard, c, lessons.LingerBytes)
	if errors.Is(err, unix.ECONNRESET) && w.is("ends when a client is gone") {
		log.Fatal(err)
	}
}
