//go:build linux

package crowd

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"lesson/internal/observe/proc"
)

// Kernel holds the memory that the kernel uses itself, in bytes: /proc/meminfo and
// /proc/net/sockstat. It is that of the whole machine, so a crowd shows only as a
// difference, which contains whatever else happens on the machine.
type Kernel struct {
	Slab    int64 `json:"slab"`        // objects: sockets, files, inodes, threads, entries of epoll
	Stacks  int64 `json:"stacks"`      // a kernel stack for each thread
	Tables  int64 `json:"page_tables"` // where each process has its memory
	Buffers int64 `json:"buffers"`     // bytes that TCP has received or not sent yet
	// Available is what a program could still have, MemAvailable: another way to
	// measure, with the memory of server and clients in it.
	Available int64 `json:"available"`
}

// Sum is what the kernel uses. Available is no part of it.
func (k Kernel) Sum() int64 { return k.Slab + k.Stacks + k.Tables + k.Buffers }

// Minus is what has come since.
func (k Kernel) Minus(before Kernel) Kernel {
	return Kernel{
		k.Slab - before.Slab, k.Stacks - before.Stacks, k.Tables - before.Tables,
		k.Buffers - before.Buffers, k.Available - before.Available,
	}
}

// kernelMemory is the median of some readings, one for each number.
func kernelMemory() (Kernel, error) {
	const readings, pause = 5, 10 * time.Millisecond
	var all []Kernel
	for range readings {
		k, err := readKernel()
		if err != nil {
			return k, err
		}
		all = append(all, k)
		time.Sleep(pause)
	}
	middle := func(number func(Kernel) int64) int64 {
		numbers := make([]int64, len(all))
		for i, k := range all {
			numbers[i] = number(k)
		}
		slices.Sort(numbers)
		return numbers[len(numbers)/2]
	}
	return Kernel{
		Slab:      middle(func(k Kernel) int64 { return k.Slab }),
		Stacks:    middle(func(k Kernel) int64 { return k.Stacks }),
		Tables:    middle(func(k Kernel) int64 { return k.Tables }),
		Buffers:   middle(func(k Kernel) int64 { return k.Buffers }),
		Available: middle(func(k Kernel) int64 { return k.Available }),
	}, nil
}

func readKernel() (Kernel, error) {
	var k Kernel
	info, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return k, err
	}
	numbers := map[string]*int64{
		"Slab:": &k.Slab, "KernelStack:": &k.Stacks, "PageTables:": &k.Tables,
		"MemAvailable:": &k.Available,
	}
	found := 0
	for line := range strings.Lines(string(info)) {
		fields := strings.Fields(line)
		if len(fields) < 2 || numbers[fields[0]] == nil {
			continue
		}
		kilobytes, err := strconv.ParseInt(fields[1], 10, 64)
		if err != nil {
			return k, fmt.Errorf("/proc/meminfo: %q: %w", line, err)
		}
		*numbers[fields[0]] = kilobytes << 10
		found++
	}
	if found < len(numbers) {
		return k, errors.New("/proc/meminfo does not say what the kernel uses")
	}
	pages, err := proc.TCPSockets("mem")
	if err != nil {
		return k, err
	}
	k.Buffers = int64(pages) * int64(os.Getpagesize())
	files, err := fileCaches()
	k.Slab -= files
	return k, err
}

// ofFiles names the caches in which the kernel keeps files of disks and of /proc, and
// no sockets. A compiler that runs meanwhile fills them.
var ofFiles = []string{
	"ext4_", "btrfs_", "xfs_", "ovl_", "fuse_", "nfs_", "proc_", "kernfs_", "shmem_", "inode_cache",
	"lsm_inode", "buffer_head", "radix_tree_node", "extent_status", "jbd2_", "bio-", "biovec-",
	"fat_", "isofs_", "squashfs_",
}

// fileCaches is the bytes in those. Only root may know: for others, 0.
func fileCaches() (int64, error) {
	text, err := os.ReadFile("/proc/slabinfo")
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	var sum int64
	for line := range strings.Lines(string(text)) {
		// slabinfo(5): name, active and all objects, their size, objects in a slab,
		// its pages : … : slabdata, active and all slabs
		fields := strings.Fields(line)
		ours := func(name string) bool { return strings.HasPrefix(fields[0], name) }
		if len(fields) < 15 || !slices.ContainsFunc(ofFiles, ours) {
			continue
		}
		pages, err1 := strconv.ParseInt(fields[5], 10, 64)
		slabs, err2 := strconv.ParseInt(fields[14], 10, 64)
		if err := errors.Join(err1, err2); err != nil {
			return 0, fmt.Errorf("/proc/slabinfo: %w", err)
		}
		sum += pages * slabs * int64(os.Getpagesize())
	}
	return sum, nil
}
