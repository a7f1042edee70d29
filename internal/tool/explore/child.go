//go:build linux

package explore

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"reflect"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"lesson/internal/kernel/simulated"
)

// A program of its own is explored in a process of its own: built with Child in the
// place of its main. This file is the process's end; build.go has ours.

// An order is what the process is to do.
type order struct {
	Scenarios []string      `json:"scenarios"`
	Faults    Faults        `json:"faults"`
	Depth     int           `json:"depth"`
	For       time.Duration `json:"for_ns"`
	Seed      uint64        `json:"seed"`
	Most      int           `json:"most"`
	Resume    *Resume       `json:"resume,omitempty"`
	Replay    string        `json:"replay,omitempty"`
	Args      []string      `json:"args"` // os.Args of the program
}

// The descriptors on which the process and its parent talk.
const (
	orderFD  = 3 // the order, as JSON
	reportFD = 4 // the report, as JSON
	markFD   = 5 // a file: the execution that is running, or its story
)

// Running is the kernel that the program runs on now: before main, one that no order uses.
var Running Kernel = simulated.New(simulated.Options{})

// mark is the file that current writes to; nil in a program that is not a child.
var mark *os.File

// current writes down which execution runs: the program may end the process.
func current(s Scenario, ds []deviation) {
	if mark == nil {
		return
	}
	text := fmt.Sprintf("%s %s\n", s.Name, replayString(ds))
	_, _ = mark.WriteAt([]byte(text), 0) // without it, only the story of an end is missing
}

// OutsideTheBubble must be called once before synctest.Test: the goroutine that the
// runtime starts for signals must not belong to it.
func OutsideTheBubble() {
	signal.Notify(make(chan os.Signal, 1), unix.SIGURG)
}

// Child does what the order on descriptor 3 says to main, and ends the process. begin gives
// the program's variables their first values; wait is that of testing/synctest.
func Child(begin, main, wait func()) {
	runtime.GOMAXPROCS(1) // one goroutine at a time, and nearly always in the same order
	if err := obey(begin, main, wait); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(3)
	}
	os.Exit(0)
}

func obey(begin, main, wait func()) error {
	text, err := io.ReadAll(os.NewFile(orderFD, "order"))
	if err != nil {
		return err
	}
	var o order
	if err := json.Unmarshal(text, &o); err != nil {
		return err
	}
	mark = os.NewFile(markFD, "mark")
	sleep = time.Sleep // inside a bubble of testing/synctest: returns at once
	if os.Stdout, err = os.OpenFile(os.DevNull, os.O_WRONLY, 0); err != nil {
		return err
	}
	var scenarios []Scenario
	for _, name := range o.Scenarios {
		s, err := FindScenario(name)
		if err != nil {
			return err
		}
		scenarios = append(scenarios, s)
	}
	program := func(k Kernel, _ func(func())) {
		Running = k
		os.Args = o.Args
		flag.CommandLine = flag.NewFlagSet(o.Args[0], flag.ExitOnError)
		k.Run(func() {
			begin()
			runtime.UnlockOSThread() // an init may have locked it: then each order would take a thread
			main()
		}, wait)
	}
	var report *Report
	if o.Replay != "" {
		current(scenarios[0], nil)
		report, err = Replay(program, scenarios[0], o.Faults, o.Replay)
	} else {
		report = Explore(context.Background(), program, Options{
			Scenarios: scenarios, Faults: o.Faults, Depth: o.Depth, For: o.For, Seed: o.Seed, most: o.Most,
		}, o.Resume)
	}
	if err != nil {
		return err
	}
	return json.NewEncoder(os.NewFile(reportFD, "report")).Encode(report)
}

// NotSimulated returns a function of the same type that ends the execution: so a program
// that calls it can be built.
func NotSimulated[F any](function F, call string) F {
	of := reflect.TypeOf(function)
	stub := reflect.MakeFunc(of, func([]reflect.Value) []reflect.Value {
		Unsupported(call)
		results := make([]reflect.Value, of.NumOut())
		for i := range results {
			results[i] = reflect.Zero(of.Out(i))
		}
		return results
	})
	return stub.Interface().(F)
}

// Unsupported ends the execution: the program makes a call that is not simulated.
func Unsupported(call string) {
	running.kernel.Skip(call, -1)
	running.abort("unsupported", "the server calls %s, which is not simulated: what follows cannot be explored", call)
}
