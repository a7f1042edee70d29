//go:build linux

package demo

import (
	"bytes"
	"os"
	"os/exec"
	"testing"
	"time"

	"lesson/internal/proof"
)

// Without a pause an event loop without descriptors is woken forever; with one it
// is woken some twenty times a second. Both serve when a descriptor is free.
//
// The limit that it lowers is that of a whole program: it is started again as one of
// its own. It starts before the other tests run: until it has become that program, it
// holds their descriptors, and a listener that one of them closes stays open.
func TestDescriptors(t *testing.T) {
	const alone = "DEMO_TEST_ALONE"
	if os.Getenv(alone) == "" {
		cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
		cmd.Env = append(os.Environ(), alone+"=1")
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		proof.Must(t, cmd.Start())
		t.Parallel()
		if err := cmd.Wait(); err != nil {
			t.Errorf("%v\n%s", err, &out)
		}
		return
	}
	const window = 500 * time.Millisecond
	var all []DescriptorsSeen
	for _, a := range acceptLoops {
		k := &watchedKernel{refusesPause: a.refusesPause}
		seen, err := exhaust(t.Context(), a.lesson, k, window)
		proof.Must(t, err)
		if a.refusesPause { // it spins for as long as it has a processor
			proof.Eventually(t, "a server that spins to wake 1,000 times in a window", func() bool {
				if seen.Used.Wakes < 1000 {
					seen, err = exhaust(t.Context(), a.lesson, k, window)
					proof.Must(t, err)
				}
				return seen.Used.Wakes >= 1000
			})
		}
		seen.Server = a.called
		all = append(all, *seen)
	}
	spins := all[0].Used
	if spins.Wakes < 1000 || spins.Exhausted < 1000 {
		t.Errorf("%s: woken %d times, EMFILE %d times", all[0].Server, spins.Wakes, spins.Exhausted)
	}
	for _, seen := range all[1:] {
		// Ten pauses a second, with two wakes for each. On a busy machine the
		// window is longer than it was meant to be.
		most := int64(seen.Window/(100*time.Millisecond))*2 + 4
		if seen.Used.Wakes > most || seen.Used.Exhausted > most {
			t.Errorf("%s: woken %d times in %v, EMFILE %d times", seen.Server,
				seen.Used.Wakes, seen.Window, seen.Used.Exhausted)
		}
		if seen.Used.Exhausted == 0 {
			t.Errorf("%s: did not try again in %v", seen.Server, seen.Window)
		}
		if seen.Used.CPU*5 > spins.CPU {
			t.Errorf("%s used %v, and the one that spins %v", seen.Server, seen.Used.CPU, spins.CPU)
		}
	}
	r := descriptorsResult(all)
	checkResult(t, "descriptors", r)
}
