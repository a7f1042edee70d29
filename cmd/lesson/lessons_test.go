//go:build linux

package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"lesson/internal/lesson"
	"lesson/internal/proof"
	"lesson/internal/protocol"
)

// A running is a lesson that runs as a program.
type running struct {
	cmd  *exec.Cmd
	log  *transcript
	addr string
}

var listening = regexp.MustCompile(`(?m)^listening on (\S+)  pid (\d+)  try: curl \S+  stop: Ctrl-C$`)

// start starts a lesson with a way to start a command, and waits until it listens.
func start(t *testing.T, l lesson.Lesson, stdout *os.File, with func(*exec.Cmd) error) running {
	t.Helper()
	p := running{log: new(transcript)}
	p.cmd = exec.Command("lesson", append(strings.Fields(l.Command)[1:], "--addr", "127.0.0.1:0")...)
	if stdout != nil {
		p.cmd.Stdout = stdout
	}
	p.cmd.Stderr = p.log
	proof.Must(t, with(p.cmd))
	t.Cleanup(func() { _ = p.cmd.Process.Kill() }) // it may have ended
	proof.Eventually(t, "the server to listen", func() bool {
		return listening.MatchString(p.log.String())
	})
	p.addr = listening.FindStringSubmatch(p.log.String())[1]
	return p
}

func (p running) dial(t *testing.T) net.Conn {
	t.Helper()
	conn, err := net.DialTimeout("tcp", p.addr, patience)
	proof.Must(t, err)
	proof.Must(t, conn.SetDeadline(time.Now().Add(patience)))
	return conn
}

// answers asks once, and wants the whole response.
func (p running) answers(t *testing.T) {
	t.Helper()
	conn := p.dial(t)
	_, err := io.WriteString(conn, "GET / HTTP/1.0\r\n\r\n")
	proof.Must(t, err)
	answer, err := io.ReadAll(conn)
	if string(answer) != string(protocol.Response) || err != nil {
		t.Errorf("a client got %q, %v\n%s", answer, err, p.log)
	}
	proof.Must(t, conn.Close())
}

// ends waits for the end, and wants status 0 and each line once on stderr.
func (p running) ends(t *testing.T, lines ...string) {
	t.Helper()
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("ended with %v", err)
	}
	for _, want := range lines {
		if strings.Count(p.log.String(), "\n"+want) != 1 {
			t.Errorf("want %q once in:\n%s", want, p.log)
		}
	}
}

func TestEveryLessonSaysItsProcess(t *testing.T) {
	for _, l := range lesson.All() {
		t.Run(l.Name, func(t *testing.T) {
			t.Parallel()
			p := start(t, l, nil, (*exec.Cmd).Start)
			line := listening.FindStringSubmatch(p.log.String())
			if pid := fmt.Sprint(p.cmd.Process.Pid); line[2] != pid || len(line[0]) > 80 {
				t.Errorf("process %s says %q", pid, line[0])
			}
			proof.Must(t, p.cmd.Process.Signal(unix.SIGTERM))
			p.ends(t, "served 0, ")
		})
	}
}

// A server whose standard output is read by no process answers all the same. It says
// once that it prints no more.
func TestEveryLessonServesWhenItsOutputIsClosed(t *testing.T) {
	for _, l := range lesson.All() {
		t.Run(l.Name, func(t *testing.T) {
			t.Parallel()
			reader, stdout, err := os.Pipe()
			proof.Must(t, err)
			proof.Must(t, reader.Close())
			proof.Eventually(t, "programs that are just being started to close the pipe", func() bool {
				fds := []unix.PollFd{{Fd: int32(stdout.Fd())}}
				_, err := unix.Poll(fds, 0)
				return err == nil && fds[0].Revents&unix.POLLERR != 0
			})
			p := start(t, l, stdout, (*exec.Cmd).Start)
			proof.Must(t, stdout.Close())
			clients := 3
			if l.Model == lesson.Blocking {
				clients = 1
			}
			for range clients {
				p.answers(t)
			}
			if clients > 1 { // else it has ended
				proof.Must(t, p.cmd.Process.Signal(unix.SIGTERM))
			}
			p.ends(t, "cannot print requests: write /dev/stdout: broken pipe; answering them all the same\n",
				fmt.Sprintf("served %d, ", clients))
		})
	}
}

// A connection that epoll cannot watch costs that connection only.
func TestEveryInterestListMayBeFull(t *testing.T) {
	for _, l := range lesson.All() {
		if l.Waits != "epoll_wait" && !l.Untraced { // those of package net wait in epoll_wait, too
			continue
		}
		t.Run(l.Name, func(t *testing.T) {
			t.Parallel()
			const most = 15 // the highest descriptor that it may watch
			p := start(t, l, nil, func(cmd *exec.Cmd) error { return startFiltered(cmd, most) })
			var silent []net.Conn
			for range most { // some of its descriptors are no connections
				silent = append(silent, p.dial(t))
			}
			_, err := silent[most-1].Read(make([]byte, 1))
			if err != io.EOF && !errors.Is(err, unix.ECONNRESET) {
				t.Errorf("the last client got %v, want an end", err)
			}
			for _, conn := range silent {
				proof.Must(t, conn.Close())
			}
			proof.Eventually(t, "room for one more", func() bool {
				conn := p.dial(t)
				defer conn.Close()
				_, err := io.WriteString(conn, "GET / HTTP/1.0\r\n\r\n")
				answer, _ := io.ReadAll(conn) // refused: an error
				return err == nil && string(answer) == string(protocol.Response)
			})
			proof.Must(t, p.cmd.Process.Signal(unix.SIGTERM))
			p.ends(t, "served 1, ")
			if strings.Contains(p.log.String(), "refused 0") {
				t.Errorf("no connection was refused:\n%s", p.log)
			}
		})
	}
}

// startFiltered starts a command for which epoll_ctl fails with ENOSPC, as for a user
// who watches as many descriptors as fs.epoll.max_user_watches allows, when it is about
// a descriptor above most.
func startFiltered(cmd *exec.Cmd, most uint32) error {
	const number, descriptor = 0, 32 // offsets in seccomp_data: nr, and args[2] in its low half
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: number},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_EPOLL_CTL, Jf: 3},
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: descriptor},
		{Code: unix.BPF_JMP | unix.BPF_JGT | unix.BPF_K, K: most, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSPC)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	return onOwnThread(func() error {
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return fmt.Errorf("prctl: %w", err)
		}
		const mode = unix.SECCOMP_MODE_FILTER
		address := uintptr(unsafe.Pointer(&program))
		if err := unix.Prctl(unix.PR_SET_SECCOMP, mode, address, 0, 0); err != nil {
			return fmt.Errorf("prctl: seccomp: %w", err)
		}
		runtime.KeepAlive(filter)
		return cmd.Start()
	})
}
