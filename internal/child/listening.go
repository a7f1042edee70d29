//go:build linux

package child

import (
	"fmt"
	"slices"

	"lesson/internal/observe/proc"
	"lesson/internal/observe/sockets"
)

// Listening returns the processes that have a listener on a port of any address, the
// lowest id first. That there is none is an error.
func Listening(port uint16) ([]int, error) {
	listeners, err := sockets.Listeners(port)
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, l := range listeners {
		holders, err := proc.Holders(l.Inode)
		if err != nil {
			return nil, err
		}
		pids = append(pids, holders...)
	}
	if len(pids) == 0 {
		return nil, fmt.Errorf("no process of yours listens on port %d; is the server running?", port)
	}
	slices.Sort(pids)
	return slices.Compact(pids), nil
}
