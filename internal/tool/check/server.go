//go:build linux

package check

import (
	"context"
	"errors"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"lesson/internal/child"
	"lesson/internal/observe/proc"
)

// A server is the one that is judged: a child of this program, or one that ran already.
type server struct {
	*child.Server
	backEnd *backEnd // nil if it takes none
}

// start starts the target and returns when it listens.
func (target Target) start(ctx context.Context, timeout time.Duration) (*server, error) {
	b, err := target.newBackEnd()
	if err != nil {
		return nil, err
	}
	s, err := target.program(timeout, b).Start(ctx)
	if err != nil {
		return nil, errors.Join(err, b.end())
	}
	return &server{s, b}, nil
}

// startAt starts the target in the place of another of its servers: on the same port, with
// the same back end.
func (target Target) startAt(
	ctx context.Context, before *server, timeout time.Duration,
) (*server, error) {
	addr := netip.AddrPortFrom(loopback, before.Addr.Port())
	s, err := target.program(timeout, before.backEnd).StartAt(ctx, addr)
	return &server{s, before.backEnd}, err
}

func (target Target) program(timeout time.Duration, b *backEnd) child.Program {
	replace := strings.NewReplacer(
		"{seconds}", strconv.Itoa(int(timeout/time.Second)), backEndMark, b.address())
	command := make([]string, len(target.Command))
	for i, arg := range target.Command {
		command[i] = replace.Replace(arg)
	}
	return child.Program{Command: command, Dir: target.Dir}
}

var loopback = netip.AddrFrom4([4]byte{127, 0, 0, 1})

// attach finds the processes of a server that we have not started. There may be
// none to be seen: another machine, another user.
func attach(addr netip.AddrPort) (*server, error) {
	s, err := child.At(addr)
	return &server{Server: s}, err
}

// end ends the server, if there is one.
func (s *server) end() error {
	if s == nil {
		return nil
	}
	return s.End()
}

// visible reports whether the server's processes can be seen.
func (s *server) visible() bool { return s.Pid() != 0 }

// descriptors counts the open descriptors of the server's processes.
func (s *server) descriptors() (int, error) {
	sum := 0
	err := s.Each(func(pid int) error {
		descriptors, err := proc.Descriptors(pid)
		sum += len(descriptors)
		return err
	})
	return sum, err
}
