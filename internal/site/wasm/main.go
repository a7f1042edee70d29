//go:build js

// Wasm is the program of the site's page: it gives the page two functions, which run a
// server on the simulated kernel. perform lets the reader's clients act, and retell plays
// an order again that `lesson explore` has found.
package main

import (
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"runtime"
	"syscall/js"
	"time"

	"golang.org/x/sys/unix"

	"lesson/blocking"
	endoffilespin "lesson/docs/exercises/02-end-of-file-spin"
	onereadperedge "lesson/docs/exercises/06-one-read-per-edge"
	oneacceptperedge "lesson/docs/exercises/07-one-accept-per-edge"
	notarmed "lesson/docs/exercises/23-not-armed"
	"lesson/edgetriggered"
	"lesson/epoll"
	"lesson/internal/kernel"
	"lesson/internal/server"
	"lesson/internal/tool/explore"
	"lesson/internal/words"
	"lesson/threaded"
)

var options = server.Options{
	Addr:    netip.MustParseAddrPort("127.0.0.1:8080"),
	Backlog: 4096, Timeout: time.Minute, MaxConns: 100,
}

// programs are the servers, by the names that servers.go has.
var programs = map[string]explore.Program{
	"blocking": lesson(func(k kernel.Kernel) (func() error, error) {
		s, err := blocking.New(k, options)
		return func() error { return s.Once() }, err
	}),
	"loop": lesson(func(k kernel.Kernel) (func() error, error) {
		s, err := blocking.New(k, options)
		return func() error { return s.Loop() }, err
	}),
	"threaded": goroutines(lesson(func(k kernel.Kernel) (func() error, error) {
		s, err := threaded.New(k, options)
		return func() error { return s.Serve() }, err
	})),
	"epoll": lesson(func(k kernel.Kernel) (func() error, error) {
		s, err := epoll.New(k, options)
		return func() error { return s.Serve() }, err
	}),
	"edgetriggered": lesson(func(k kernel.Kernel) (func() error, error) {
		s, err := edgetriggered.New(k, options)
		return func() error { return s.Serve() }, err
	}),
	"02-end-of-file-spin":    exercise(endoffilespin.Main),
	"06-one-read-per-edge":   exercise(onereadperedge.Main),
	"07-one-accept-per-edge": exercise(oneacceptperedge.Main),
	"23-not-armed":           exercise(notarmed.Main),
}

func lesson(start func(kernel.Kernel) (serve func() error, err error)) explore.Program {
	return func(k explore.Kernel, _ func(func())) {
		serve, err := start(k)
		if err == nil {
			err = serve()
		}
		if err != nil {
			panic(err)
		}
	}
}

// goroutines runs a program that has more than one.
func goroutines(p explore.Program) explore.Program {
	return func(k explore.Kernel, started func(func())) {
		k.Run(func() { p(k, started) }, wait)
	}
}

// wait returns when every other goroutine is blocked. There is one thread: a call of
// Gosched nearly always lets all that can run do so until they block.
func wait() {
	for range 8 {
		runtime.Gosched()
	}
}

func exercise(main func()) explore.Program {
	return func(k explore.Kernel, _ func(func())) {
		unix.Running = k
		main()
	}
}

// perform answers the page: a Performance, or an error.
func perform(program explore.Program, acts string) any {
	p, err := explore.Perform(program, acts)
	if err != nil {
		return failed(err)
	}
	return p
}

// retell answers the page: the steps of a story and what was wrong, or an error.
func retell(program explore.Program, order string) any {
	story, failure, err := explore.Retell(program, order)
	if err != nil {
		return failed(err)
	}
	return struct {
		*explore.Story
		Failure *explore.Failure `json:"failure"`
	}{story, failure}
}

func failed(err error) any {
	said := words.Sentence{Text: err.Error()}
	if e, ok := errors.AsType[words.Error](err); ok {
		said = e.Sentence
	}
	return map[string]words.Sentence{"error": said}
}

// function makes a function of the page, which takes the name of a server and a text, and
// returns JSON.
func function(f func(explore.Program, string) any) js.Func {
	return js.FuncOf(func(_ js.Value, args []js.Value) any {
		var answer any
		if program, found := programs[args[0].String()]; found {
			answer = f(program, args[1].String())
		} else {
			answer = failed(words.Error{Sentence: words.Say("no server %q", args[0].String())})
		}
		text, err := json.Marshal(answer)
		if err != nil {
			panic(err) // it has nothing that is not JSON
		}
		return string(text)
	})
}

func main() {
	os.Args = os.Args[:1]
	os.Stdout, os.Stderr = nil, nil // what an exercise prints goes nowhere
	js.Global().Set("perform", function(perform))
	js.Global().Set("retell", function(retell))
	js.Global().Call("begun")
	select {}
}
