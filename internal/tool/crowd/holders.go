//go:build linux

package crowd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os/exec"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// A holder is a child process that holds a part of the crowd: this program,
// started again.
type holder struct {
	cmd     *exec.Cmd
	stdin   io.WriteCloser
	answers *json.Decoder
	held    int
}

// holders is the crowd of one server. It is spread over several processes, so that
// it is always the server whose descriptors end first.
type holders struct {
	ctx   context.Context
	self  []string // the command that Hold is behind
	to    netip.AddrPort
	each  int // connections in one process
	group []*holder
}

// grow makes the crowd n connections large, all in all. held is less when the
// server let no more in, and stopped says why; an error is one of ours.
func (h *holders) grow(n int) (held int, took time.Duration, stopped string, err error) {
	for part := 0; part*h.each < n && stopped == ""; part++ {
		if part == len(h.group) {
			one, err := h.start(part * h.each)
			if err != nil {
				return held, took, "", err
			}
			h.group = append(h.group, one)
		}
		one := h.group[part]
		answer, err := one.grow(min(h.each, n-part*h.each))
		if err != nil {
			return held, took, "", errors.Join(h.ctx.Err(), err)
		}
		held += answer.Held
		took += answer.Took
		stopped = answer.Stopped
	}
	return held, took, stopped, nil
}

func (h *holders) start(first int) (*holder, error) {
	args := append(h.self[1:len(h.self):len(h.self)],
		"--json", "--first", strconv.Itoa(first), h.to.String(), "0")
	// When ctx ends it is killed, and its connections are reset all the same.
	one := &holder{cmd: exec.CommandContext(h.ctx, h.self[0], args...)}
	one.cmd.SysProcAttr = &unix.SysProcAttr{
		Setpgid:   true, // Ctrl-C is for us
		Pdeathsig: unix.SIGKILL,
	}
	var err error
	if one.stdin, err = one.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := one.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	one.answers = json.NewDecoder(out)
	if err := one.cmd.Start(); err != nil {
		return nil, err
	}
	if _, err := one.answer(); err != nil { // there are 0 now
		return nil, errors.Join(err, one.end())
	}
	return one, nil
}

func (one *holder) grow(n int) (Held, error) {
	if n <= one.held {
		return Held{Held: one.held}, nil
	}
	if _, err := fmt.Fprintln(one.stdin, n); err != nil {
		return Held{}, fmt.Errorf("the crowd's process: %w", err)
	}
	return one.answer()
}

func (one *holder) answer() (Held, error) {
	var answer Held
	if err := one.answers.Decode(&answer); err != nil {
		return answer, fmt.Errorf("the crowd's process has ended: %w", err)
	}
	one.held = answer.Held
	return answer, nil
}

// end ends the process, and resets its connections with that.
func (one *holder) end() error {
	return errors.Join(one.stdin.Close(), one.cmd.Wait())
}

// release lets all connections go, by reset, and returns when they are gone.
func (h *holders) release() error {
	var err error
	for _, one := range h.group {
		ended := one.end()
		if h.ctx.Err() == nil { // else it was killed
			err = errors.Join(err, ended)
		}
	}
	h.group = nil
	return err
}
