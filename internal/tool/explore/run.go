//go:build linux

package explore

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"time"

	"lesson/internal/child"
)

// perProcess bounds the executions of one process: each may leave a goroutine behind,
// and what the program keeps in its variables.
const perProcess = 40_000

// Explore explores a program that Build has built, in processes of its own.
func (b *Built) Explore(ctx context.Context, o Options, args []string) (*Report, error) {
	whole := &Report{}
	order := order{Faults: o.Faults, Depth: o.Depth, Seed: o.Seed, Most: perProcess, Args: args}
	for _, s := range o.Scenarios {
		order.Scenarios = append(order.Scenarios, s.Name)
	}
	for began := time.Now(); ; {
		if o.For > 0 {
			order.For = max(time.Millisecond, o.For-time.Since(began))
		}
		part, err := b.run(ctx, order)
		if err != nil {
			return nil, err
		}
		executions := whole.Executions + part.Executions
		*whole = *part
		whole.Executions, whole.Took = executions, time.Since(began)
		switch {
		case whole.Failure != nil:
			return whole, b.confirm(ctx, whole, order)
		case part.Resume == nil || ctx.Err() != nil:
			return whole, nil
		}
		order.Resume = part.Resume
	}
}

// confirm plays a failure again in a process that has run nothing else: what the program keeps
// from one order to the next is not there.
func (b *Built) confirm(ctx context.Context, r *Report, o order) error {
	s, err := FindScenario(r.Scenario)
	if err != nil {
		return err
	}
	again, err := b.Replay(ctx, s, o.Faults, r.Replay, o.Args)
	if err != nil {
		return err
	}
	r.Varies = r.Varies || again.Failure == nil || *again.Failure != *r.Failure
	return nil
}

// Replay plays one execution of it again.
func (b *Built) Replay(ctx context.Context, s Scenario, f Faults, replay string, args []string) (*Report, error) {
	return b.run(ctx, order{Scenarios: []string{s.Name}, Faults: f, Replay: replay, Args: args})
}

// run carries out one order. If the program ends the process, that is the failure.
func (b *Built) run(ctx context.Context, o order) (*Report, error) {
	text, err := json.Marshal(o)
	if err != nil {
		return nil, err
	}
	mark, err := os.CreateTemp(b.dir.Path, "mark-")
	if err != nil {
		return nil, err
	}
	defer mark.Close()
	report, said, ended, err := b.start(ctx, text, mark)
	switch {
	case err != nil || report != nil:
		return report, err
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case o.Replay != "":
		return endedReport(o, mark, ended, said)
	}
	// What ran when it ended is in the file. It is played again, for the story.
	line, err := io.ReadAll(io.NewSectionReader(mark, 0, 1<<20))
	if err != nil {
		return nil, err
	}
	scenario, replay, found := strings.Cut(strings.SplitN(string(line), "\n", 2)[0], " ")
	if !found {
		return nil, fmt.Errorf("the program ended before it was run: %s\n%s", ended, said)
	}
	return b.run(ctx, order{Scenarios: []string{scenario}, Faults: o.Faults, Replay: replay, Args: o.Args})
}

// start runs the process to its end.
func (b *Built) start(ctx context.Context, order []byte, mark *os.File) (report *Report, said, ended string, err error) {
	orderOut, orderIn, err := os.Pipe()
	if err != nil {
		return nil, "", "", err
	}
	defer orderOut.Close()
	reportOut, reportIn, err := os.Pipe()
	if err != nil {
		return nil, "", "", errors.Join(err, orderIn.Close())
	}
	defer reportOut.Close()

	cmd := exec.CommandContext(ctx, b.File, "-test.run=^TestExplore$", "-test.timeout=0")
	cmd.ExtraFiles = []*os.File{orderOut, reportIn, mark}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		return nil, "", "", errors.Join(err, orderIn.Close(), reportIn.Close())
	}
	stalled := watch(cmd.Process, mark)
	_, err = orderIn.Write(order)
	err = errors.Join(err, orderIn.Close(), reportIn.Close())
	text, read := io.ReadAll(reportOut)
	waited := cmd.Wait()
	if stalled() {
		return nil, "", "", errStalled
	}
	said = child.LastWords(stderr.Bytes())
	if err := errors.Join(err, read); err != nil {
		return nil, said, "", err
	}
	if len(text) > 0 {
		report = new(Report)
		return report, said, "", json.Unmarshal(text, report)
	}
	var exit *exec.ExitError
	switch {
	case errors.As(waited, &exit):
		return nil, said, exit.String(), nil
	case waited != nil:
		return nil, said, "", waited
	}
	return nil, said, "exit status 0", nil
}

// stallsAfter is how long one execution may take: most take less than a millisecond.
const stallsAfter = 30 * time.Second

var errStalled = fmt.Errorf("the program has blocked for %v outside of the simulated kernel: does it "+
	"use package net, standard input, or a lock that nothing releases?", stallsAfter)

// watch kills the process if the mark does not change for so long. The function that it
// returns ends that, and reports whether the process was killed.
func watch(process *os.Process, mark *os.File) (stalled func() bool) {
	over, killed := make(chan struct{}), make(chan bool, 1)
	go func() {
		const look = time.Second
		var before [64]byte
		for same := time.Duration(0); same < stallsAfter; same += look {
			select {
			case <-over:
				killed <- false
				return
			case <-time.After(look):
			}
			var now [64]byte
			if _, err := mark.ReadAt(now[:], 0); err != nil && !errors.Is(err, io.EOF) || now != before {
				before, same = now, -look
			}
		}
		killed <- process.Kill() == nil
	}()
	return func() bool {
		close(over)
		return <-killed
	}
}

// logTime is what package log writes before a line: here the time is virtual.
var logTime = regexp.MustCompile(`^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d `)

// endedReport is the report of an execution in which the program has ended the process.
func endedReport(o order, mark *os.File, ended, said string) (*Report, error) {
	story := &Story{}
	if err := json.NewDecoder(io.NewSectionReader(mark, 0, 1<<24)).Decode(story); err != nil {
		return nil, fmt.Errorf("the program ends before its first system call: %s\n%s\n"+
			"Does it need other arguments? They follow --, as in: lesson explore FOLDER -- {host} {port}", ended, said)
	}
	failure := &Failure{Kind: "ended", Text: fmt.Sprintf("the server ends after step %d: %s", len(story.Steps), ended)}
	if lines := strings.Split(said, "\n"); said != "" {
		failure.Text += ": " + logTime.ReplaceAllString(lines[len(lines)-1], "")
	}
	return &Report{Executions: 1, Scenario: o.Scenarios[0], Failure: failure, Replay: o.Replay, Story: story}, nil
}
