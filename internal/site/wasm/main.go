//go:build js

// Wasm is the program of the site's page: it gives the page one function, perform, which
// runs a server on the simulated kernel and lets the reader's clients act.
package main

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"syscall/js"
	"time"

	"golang.org/x/sys/unix"

	"lesson/blocking"
	onereadperedge "lesson/docs/exercises/06-one-read-per-edge"
	oneacceptperedge "lesson/docs/exercises/07-one-accept-per-edge"
	"lesson/edgetriggered"
	"lesson/epoll"
	"lesson/internal/kernel"
	"lesson/internal/server"
	"lesson/internal/tool/explore"
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
	"06-one-read-per-edge":   exercise(onereadperedge.Main),
	"07-one-accept-per-edge": exercise(oneacceptperedge.Main),
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

// perform answers the page: a Performance, or an error, as JSON.
func perform(name, acts string) []byte {
	var answer struct {
		*explore.Performance
		Error string `json:"error,omitempty"`
	}
	program, found := programs[name]
	if !found {
		answer.Error = fmt.Sprintf("no server %q", name)
	} else if p, err := explore.Perform(program, acts); err != nil {
		answer.Error = err.Error()
	} else {
		answer.Performance = p
	}
	text, err := json.Marshal(answer)
	if err != nil {
		panic(err) // it has nothing that is not JSON
	}
	return text
}

func main() {
	os.Args = os.Args[:1]
	os.Stdout, os.Stderr = nil, nil // what an exercise prints goes nowhere
	js.Global().Set("perform", js.FuncOf(func(_ js.Value, args []js.Value) any {
		return string(perform(args[0].String(), args[1].String()))
	}))
	js.Global().Call("begun")
	select {}
}
