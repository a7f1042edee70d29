//go:build linux

package proc

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Descriptors returns what each open descriptor of a process is, in the words of the
// links in /proc/PID/fd: "socket:[4711]", "anon_inode:[eventpoll]", "/dev/null". ErrGone
// when the process has ended.
func Descriptors(pid int) (map[int]string, error) {
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, gone(err)
	}
	descriptors := make(map[int]string, len(entries))
	for _, entry := range entries {
		fd, err := strconv.Atoi(entry.Name())
		if err != nil {
			return nil, fmt.Errorf("%s: %w", dir, err)
		}
		if link, err := os.Readlink(filepath.Join(dir, entry.Name())); err == nil {
			descriptors[fd] = link // else closed since
		}
	}
	return descriptors, nil
}

// SocketLink returns the words with which Descriptors describes the socket that has
// this inode.
func SocketLink(inode uint32) string { return fmt.Sprintf("socket:[%d]", inode) }

// Holders returns those of the processes that have the socket open. Those that have
// ended, or that this program may not look at, are skipped. With no processes given, it
// looks at all.
func Holders(inode uint32, pids ...int) ([]int, error) {
	if len(pids) == 0 {
		all, err := All()
		if err != nil {
			return nil, err
		}
		for _, p := range all {
			pids = append(pids, p.Pid)
		}
	}
	var holders []int
	for _, pid := range pids {
		_, holds, err := DescriptorOf(pid, inode)
		if errors.Is(err, ErrGone) || errors.Is(err, fs.ErrPermission) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if holds {
			holders = append(holders, pid)
		}
	}
	return holders, nil
}

// DescriptorOf returns a descriptor by which a process has a socket open, if it has.
// ErrGone when the process has ended.
func DescriptorOf(pid int, inode uint32) (fd int, open bool, err error) {
	descriptors, err := Descriptors(pid)
	for fd, link := range descriptors {
		if link == SocketLink(inode) {
			return fd, true, nil
		}
	}
	return -1, false, err
}

// Duplicate returns a descriptor of this program for what a descriptor of another
// process stands for: pidfd_getfd(2), Linux 5.6. It takes the right to trace the process.
func Duplicate(pid, fd int) (int, error) {
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return -1, fmt.Errorf("pidfd_open: %w", err)
	}
	defer unix.Close(pidfd)
	ours, err := unix.PidfdGetfd(pidfd, fd, 0)
	if err != nil {
		return -1, fmt.Errorf("pidfd_getfd: %w", err)
	}
	return ours, nil
}

// An Interest is an entry of an epoll interest list.
type Interest struct {
	FD     int
	Events uint32
	Data   uint64 // what epoll_wait hands back: epoll_data of epoll_ctl(2)
}

// Interests returns the interest list of an epoll descriptor of a process:
// /proc/PID/fdinfo/FD. ErrGone when there is no such descriptor.
func Interests(pid, fd int) ([]Interest, error) {
	info, err := os.ReadFile(fmt.Sprintf("/proc/%d/fdinfo/%d", pid, fd))
	if err != nil {
		return nil, gone(err)
	}
	var list []Interest
	for line := range strings.Lines(string(info)) {
		fields := strings.Fields(line)
		if len(fields) < 6 || fields[0] != "tfd:" {
			continue // pos, flags, mnt_id, ino
		}
		fd, err1 := strconv.Atoi(fields[1])
		events, err2 := strconv.ParseUint(fields[3], 16, 32)
		data, err3 := strconv.ParseUint(fields[5], 16, 64)
		if err := errors.Join(err1, err2, err3); err != nil {
			return nil, fmt.Errorf("fdinfo %q: %w", line, err)
		}
		list = append(list, Interest{FD: fd, Events: uint32(events), Data: data})
	}
	return list, nil
}

// InterestsWith returns the interest list in which a process has fd, whichever epoll
// descriptor that list belongs to; nil when none has it. A program of Go has a list of
// the runtime's besides its own.
func InterestsWith(pid, fd int) ([]Interest, error) {
	descriptors, err := Descriptors(pid)
	if err != nil {
		return nil, err
	}
	for epoll, link := range descriptors {
		if link != "anon_inode:[eventpoll]" {
			continue
		}
		list, err := Interests(pid, epoll)
		if err != nil && !errors.Is(err, ErrGone) { // it may have been closed since
			return nil, err
		}
		if slices.ContainsFunc(list, func(i Interest) bool { return i.FD == fd }) {
			return list, nil
		}
	}
	return nil, nil
}
