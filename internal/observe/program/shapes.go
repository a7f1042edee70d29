//go:build linux

package program

import (
	"encoding/binary"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"lesson/internal/kernel"
	"lesson/internal/observe/ptrace"
)

// A shape describes how a system call is shown: as trace.Traced shows it, if a lesson
// makes that call.
type shape struct {
	name string
	fd   int // which argument is the descriptor that it is about; -1 for none
	args func(ptrace.Stop) string
	data data
}

// data returns what a call has returned beside its result, and where that is.
type data uint8

const (
	nothing data = iota
	buffer       // bytes, at the second argument
	events       // of epoll, at the second argument
)

// shapes has the calls that serve clients or wait for them, by the kernel's names: a
// program's send is the kernel's sendto, and so on.
var shapes = map[string]shape{
	"socket":        {"socket", -1, socketArgs, nothing},
	"bind":          {"bind", 0, addressArgs, nothing},
	"listen":        {"listen", 0, func(s ptrace.Stop) string { return join(s, 2) }, nothing},
	"connect":       {"connect", 0, addressArgs, nothing},
	"accept":        {"accept", 0, descriptor, nothing},
	"accept4":       {"accept4", 0, descriptor, nothing},
	"setsockopt":    {"setsockopt", 0, optionArgs, nothing},
	"read":          {"read", 0, bytesArgs, buffer},
	"recvfrom":      {"recv", 0, bytesArgs, buffer},
	"readv":         {"readv", 0, descriptor, nothing},
	"recvmsg":       {"recvmsg", 0, descriptor, nothing},
	"write":         {"write", 0, bytesArgs, buffer},
	"sendto":        {"send", 0, bytesArgs, buffer},
	"writev":        {"writev", 0, descriptor, nothing},
	"sendmsg":       {"sendmsg", 0, descriptor, nothing},
	"sendfile":      {"sendfile", 0, descriptor, nothing},
	"splice":        {"splice", 0, spliceArgs, nothing},
	"shutdown":      {"shutdown", 0, shutdownArgs, nothing},
	"close":         {"close", 0, descriptor, nothing},
	"epoll_create":  {"epoll_create", -1, none, nothing},
	"epoll_create1": {"epoll_create1", -1, none, nothing},
	"epoll_ctl":     {"epoll_ctl", 2, epollCtlArgs, nothing},
	"epoll_wait":    {"epoll_wait", -1, epollWaitArgs, events},
	"epoll_pwait":   {"epoll_wait", -1, epollWaitArgs, events},
	"epoll_pwait2":  {"epoll_wait", -1, epollWait2Args, events},
	"poll":          {"poll", -1, pollArgs, nothing},
	"ppoll":         {"ppoll", -1, pollArgs, nothing},
	"select":        {"select", -1, pollArgs1, nothing},
	"pselect6":      {"pselect6", -1, pollArgs1, nothing},
}

func none(ptrace.Stop) string { return "" }

func descriptor(s ptrace.Stop) string { return join(s, 1) }

// join returns the first n arguments as numbers.
func join(s ptrace.Stop, n int) string {
	text := ""
	for i, arg := range s.Args[:n] {
		if i > 0 {
			text += ", "
		}
		text += fmt.Sprint(int32(arg))
	}
	return text
}

func bytesArgs(s ptrace.Stop) string {
	return fmt.Sprintf("%d, %d bytes", int32(s.Args[0]), s.Args[2])
}

func spliceArgs(s ptrace.Stop) string {
	return fmt.Sprintf("%d, %d, %d bytes", int32(s.Args[0]), int32(s.Args[2]), s.Args[4])
}

func socketArgs(s ptrace.Stop) string {
	return kernel.SocketArgs(int(s.Args[0]), int(s.Args[1]))
}

// addressArgs shows the address that the program gives, if it is one of IPv4 or IPv6.
func addressArgs(s ptrace.Stop) string {
	raw := make([]byte, min(s.Args[2], unix.SizeofSockaddrInet6))
	if ptrace.Peek(s.Thread, s.Args[1], raw) != nil {
		return descriptor(s)
	}
	addr, ok := kernel.RawAddrPort(raw)
	if !ok {
		return descriptor(s)
	}
	return fmt.Sprintf("%d, %s", int32(s.Args[0]), addr)
}

func optionArgs(s ptrace.Stop) string {
	text := fmt.Sprintf("%d, %s", int32(s.Args[0]), kernel.OptionName(int(s.Args[1]), int(s.Args[2])))
	var value [4]byte
	if s.Args[4] == uint64(len(value)) && ptrace.Peek(s.Thread, s.Args[3], value[:]) == nil {
		text += fmt.Sprintf(", %d", int32(binary.NativeEndian.Uint32(value[:])))
	}
	return text
}

func shutdownArgs(s ptrace.Stop) string {
	how := "?"
	if names := [...]string{"SHUT_RD", "SHUT_WR", "SHUT_RDWR"}; s.Args[1] < uint64(len(names)) {
		how = names[s.Args[1]]
	}
	return fmt.Sprintf("%d, %s", int32(s.Args[0]), how)
}

func epollCtlArgs(s ptrace.Stop) string {
	op := fmt.Sprint(s.Args[1])
	if names := [...]string{"", "ADD", "DEL", "MOD"}; s.Args[1] < uint64(len(names)) {
		op = names[s.Args[1]]
	}
	text := fmt.Sprintf("%d, %s, %d", int32(s.Args[0]), op, int32(s.Args[2]))
	if e, err := peekEvents(s.Thread, s.Args[3], 1); err == nil && s.Args[1] != unix.EPOLL_CTL_DEL {
		text += ", " + kernel.EventNames(e[0].Events)
	}
	return text
}

func epollWaitArgs(s ptrace.Stop) string {
	return fmt.Sprintf("%d, %s", int32(s.Args[0]), milliseconds(int32(s.Args[3])))
}

// epollWait2Args leaves the timeout out: it is behind a pointer. A null pointer waits
// forever.
func epollWait2Args(s ptrace.Stop) string {
	if s.Args[3] == 0 {
		return fmt.Sprintf("%d, forever", int32(s.Args[0]))
	}
	return fmt.Sprint(int32(s.Args[0]))
}

func pollArgs(s ptrace.Stop) string { return fmt.Sprintf("%d descriptors", s.Args[1]) }

// pollArgs1 spells the arguments of select, whose sets reach from 0 to the highest descriptor.
func pollArgs1(s ptrace.Stop) string { return fmt.Sprintf("descriptors below %d", s.Args[0]) }

func milliseconds(ms int32) string {
	if ms < 0 {
		return "forever"
	}
	return fmt.Sprintf("%d ms", time.Duration(ms))
}
