//go:build linux

package explore

import (
	"maps"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lesson/internal/kernel/simulated"
	"lesson/internal/lesson"
	"lesson/internal/proof"
)

// An order that ends in a state seen before leaves nothing out: a search without that
// comes to the same states.
func TestEarlyEndsMissNoState(t *testing.T) {
	names, faults := []string{"two", "small-buffers", "descriptors"}, Faults{}
	if proof.Exhaustive() {
		names, faults = nil, Faults{Short: true, Errors: true}
		for _, s := range Scenarios() {
			names = append(names, s.Name)
		}
	}
	for _, name := range names {
		scenario, err := FindScenario(name)
		proof.Must(t, err)
		if scenario.Plain || len(scenario.Clients) > 3 {
			continue
		}
		for _, l := range []string{"epoll", "edgetriggered"} {
			t.Run(name+"/"+l, func(t *testing.T) {
				early, orders := statesOf(t, l, scenario, faults, false)
				all, allOrders := statesOf(t, l, scenario, faults, true)
				if !maps.Equal(early, all) {
					t.Errorf("%d states with early ends, want %d", len(early), len(all))
				}
				if orders >= allOrders {
					t.Errorf("%d orders with early ends, %d without", orders, allOrders)
				}
			})
		}
	}
}

// statesOf returns the states that a search with two deviations comes to, and how many
// orders it takes. whole says that no order ends early.
func statesOf(
	t *testing.T, name string, scenario Scenario, faults Faults, whole bool,
) (map[simulated.Hash]struct{}, int) {
	l, err := lesson.Find(name)
	proof.Must(t, err)
	target, err := Lesson(l)
	proof.Must(t, err)
	from := newResume([]Scenario{scenario})
	if whole {
		from.States.whole = "for comparison"
	}
	r := Explore(t.Context(), target.program, Options{
		Scenarios: []Scenario{scenario}, Faults: faults, Depth: 2,
	}, from)
	if r.Failure != nil {
		t.Fatal(r.Failure.Text)
	}
	return from.States.seen, r.Executions
}

// A server that does not do the same each time is noticed: its state does not follow from
// its history.
func TestUnsteadyServer(t *testing.T) {
	for name, want := range map[string]string{"steady": "", "unsteady": unsteady} {
		runs := 0
		serve := func(k Kernel, _ func(func())) {
			runs++
			fd, err := k.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
			proof.Must(t, err)
			proof.Must(t, k.Bind(fd, address))
			proof.Must(t, k.Listen(fd, 1))
			for {
				conn, err := k.Accept4(fd, 0)
				proof.Must(t, err)
				size := 100
				if want != "" {
					size = 1 + runs%7
				}
				for n := 1; n > 0; {
					n, _ = k.Read(conn, make([]byte, size)) // ends with a reset, too
				}
				proof.Must(t, k.Close(conn))
			}
		}
		r := Explore(t.Context(), serve, Options{Scenarios: Scenarios()[2:5], Depth: 2}, nil)
		if r.Failure != nil || r.Whole != want || r.Merged == 0 {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

// An order that ends now in one way and now in another is reported as one that varies.
func TestOrderThatVaries(t *testing.T) {
	for name, unsteady := range map[string]bool{"steady": false, "unsteady": true} {
		runs := 0
		serve := func(k Kernel, _ func(func())) {
			runs++
			if unsteady && runs%2 == 0 {
				panic("now and then")
			}
		}
		r := Explore(t.Context(), serve, Options{Scenarios: Scenarios()[:1]}, nil)
		if r.Failure == nil || r.Varies != unsteady {
			t.Errorf("%s: %+v", name, r)
		}
		var text strings.Builder
		r.Print(&text, 0)
		if strings.Contains(strings.Join(strings.Fields(text.String()), " "), aboutVarying) != unsteady {
			t.Errorf("%s: %s", name, text.String())
		}
	}
}

// A search at random ends, too, if no scenario has another order than its plain one.
func TestOnlyThePlainOrder(t *testing.T) {
	flooder, err := FindScenario("flooder")
	proof.Must(t, err)
	l, err := lesson.Find("epoll")
	proof.Must(t, err)
	target, err := Lesson(l)
	proof.Must(t, err)
	r, err := target.Explore(t.Context(), Options{Scenarios: []Scenario{flooder}, For: time.Minute})
	proof.Must(t, err)
	if r.Executions != 1 || r.Failure != nil {
		t.Errorf("%+v", r)
	}
}
