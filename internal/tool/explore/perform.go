//go:build linux

package explore

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"lesson/internal/kernel/simulated"
	"lesson/internal/words"
)

// A Performance is one execution in which a reader chooses the acts: each is done when
// the server sleeps. The same acts give the same Performance.
type Performance struct {
	Steps   []Step           `json:"steps"`
	Acted   []int            `json:"acted"`   // of each act, the number of its step
	Clients []Performer      `json:"clients"` // at the end
	Waits   []words.Sentence `json:"waits"`   // who waits for what
	Ended   words.Sentence   `json:"ended"`   // how the server has ended; zero while it runs
}

// A Performer is a client at the end of a Performance.
type Performer struct {
	Name  string         `json:"name"`
	State words.Sentence `json:"state"` // in a few words
	Can   []string       `json:"can"`   // the verbs that it can do next
}

// Performers are the names of the clients.
const Performers = "abcd"

// mostActs bounds the acts of one Performance.
const mostActs = 60

// anAct is one of them: some clients do the same at the same moment, or time passes.
type anAct struct {
	clients string
	verb    string
}

var actForm = regexp.MustCompile(`^(?:([` + Performers + `]+)([chrwlexq])|([tm]))$`)

// verbs are the acts of a client, in words for one client and for several. bytes is what
// is sent.
var verbs = map[string]clientVerb{
	"c": verb("%s connects", "%s connect at the same moment", ""),
	"h": verb("%s sends half a request", "%s send half a request at the same moment", request[:len(request)/2]),
	"r": verb("%s sends the rest of its request", "%s send the rest at the same moment", request[len(request)/2:]),
	"w": verb("%s sends a whole request", "%s send a whole request at the same moment", request),
	"l": verb("%s sends a request of 3,042 bytes", "%s send a request of 3,042 bytes each at the same moment",
		longRequest),
	"e": verb("%s sends its FIN", "%s send their FINs at the same moment", ""),
	"x": verb("%s resets", "%s reset at the same moment", ""),
	"q": verb("%s closes", "%s close at the same moment", ""),
}

type clientVerb struct{ one, many, bytes string }

func verb(one, many, bytes string) clientVerb { return clientVerb{one, many, bytes} }

// longRequest is longer than some reads, and shorter than the longest that is served.
var longRequest = "GET / HTTP/1.0\r\n" +
	strings.Repeat("X: "+strings.Repeat("x", 58)+"\r\n", 48) + "\r\n"

// passes is how long time passes with an act.
var passes = map[string]time.Duration{"t": time.Second, "m": time.Minute}

// parseActs reads acts as a link has them: "abc-ah-t" is that a and b connect at the
// same moment, a sends half a request, and a second passes.
func parseActs(text string) ([]anAct, error) {
	if text == "" {
		return nil, nil
	}
	var acts []anAct
	for _, part := range strings.Split(text, "-") {
		found := actForm.FindStringSubmatch(part)
		if found == nil {
			return nil, words.Error{Sentence: words.Say("%.20q is no act", part)}
		}
		acts = append(acts, anAct{found[1], found[2] + found[3]})
	}
	if len(acts) > mostActs {
		return nil, words.Error{Sentence: words.Say("%d acts; at most %d are performed: begin again", len(acts), mostActs)}
	}
	return acts, nil
}

// Perform runs a server on the simulated kernel, and does the acts in order. It returns an
// error for acts that are none, or too many.
func Perform(p Program, acts string) (*Performance, error) {
	parsed, err := parseActs(acts)
	if err != nil {
		return nil, err
	}
	w := &performance{
		execution: &execution{program: p, choose: &chooser{}, base: -1, alone: true, story: &Story{}},
		acts:      parsed,
	}
	w.kernel = simulated.New(simulated.Options{World: w})
	for _, name := range Performers {
		w.actors = append(w.actors, &actor{Client: Client{Name: string(name)}})
	}
	w.play()
	switch {
	case !w.done: // by itself: the acts that are left find no server
		w.result.Ended = *w.story.Failed
		w.acting = true
		for w.collect() || len(w.acts) > 0 {
			if len(w.acts) > 0 {
				w.perform()
			}
		}
		w.finish()
	case w.failure != nil: // a call was its last: it spins, say
		w.result.Ended = *w.story.Failed
	}
	if w.story.full() && w.failure == nil {
		return nil, words.Error{Sentence: words.Say("a story has at most %d steps: begin again", maxSteps)}
	}
	w.story.fold()
	w.result.Steps = w.story.Steps
	return &w.result, nil
}

// A performance is a World in which a reader's acts are done.
type performance struct {
	*execution
	acts   []anAct       // that are left
	until  time.Duration // when the time that passes now is over
	tick   time.Duration // how far it moves at once: what ends in between is late by less
	result Performance
}

// Idle lets a client read what has arrived, else time pass, else the next act be done.
func (w *performance) Idle() bool {
	w.since, w.idle = 0, 0
	w.acting = true
	defer func() { w.acting = false }()
	switch {
	case w.collect():
	case w.kernel.Now() < w.until:
		w.kernel.Advance(min(w.tick, w.until-w.kernel.Now()))
	case len(w.acts) > 0:
		w.perform()
	default:
		w.finish()
		w.end()
	}
	return true
}

// Stuck is never called: Idle ends the execution before.
func (w *performance) Stuck() {}

// collect lets the first client read that can, and reports whether one could.
func (w *performance) collect() bool {
	for _, a := range w.actors {
		if !a.open() || !a.conn.Readable() {
			continue
		}
		w.begin()
		p, ended, err := a.conn.Read(math.MaxInt)
		a.got = append(a.got, p...)
		a.end, a.err = ended && err == nil, err
		switch {
		case err != nil:
			w.note("%s reads: %s", a.Name, unix.ErrnoName(err.(unix.Errno)))
		case ended:
			w.note("%s reads end of file", a.Name)
		default:
			w.note("%s reads %d bytes: %s…", a.Name, len(p), fmt.Sprintf("%.15q", p))
		}
		return true
	}
	return false
}

// open reports whether the client has a connection, and has not seen its end.
func (a *actor) open() bool {
	return a.conn != nil && a.conn.Connected() && !a.gone && !a.end && a.err == nil
}

// perform does the next act.
func (w *performance) perform() {
	next := w.acts[0]
	w.acts = w.acts[1:]
	w.begin()
	w.result.Acted = append(w.result.Acted, len(w.steps()))
	if d := passes[next.verb]; d > 0 {
		w.until, w.tick = w.kernel.Now()+d, d/60
		w.note("%.0f s pass", d.Seconds())
		return
	}
	var done []string
	var said []words.Sentence
	for _, a := range w.actors {
		switch {
		case !strings.Contains(next.clients, a.Name):
		case slices.Contains(a.can(), next.verb):
			w.do(a, next.verb)
			done = append(done, a.Name)
		default:
			said = append(said, words.Say("%s cannot do that now", a.Name))
		}
	}
	if len(done) > 0 {
		said = append(said, describe(done, next.verb))
	}
	all := said[0] // an act names a client
	for _, one := range said[1:] {
		all = words.Say("%s; %s", all, one)
	}
	w.noteSaid(all)
}

// describe writes what clients have done at the same moment.
func describe(clients []string, verb string) words.Sentence {
	if len(clients) == 1 {
		return words.Say(verbs[verb].one, clients[0])
	}
	names := words.Say("%s and %s", clients[0], clients[1])
	for _, name := range clients[2:] {
		names = words.Say("%s and %s", names, name)
	}
	return words.Say(verbs[verb].many, names)
}

func (w *performance) do(a *actor, verb string) {
	switch verb {
	case "c":
		*a = actor{Client: a.Client, conn: w.kernel.Connect(a.Name, w.kernel.ListenPort())}
	case "e":
		_ = a.conn.HalfClose() // fails if the server has reset it: its read shows that
		a.halfClosed = true
	case "x":
		a.conn.Reset()
		a.gone = true
	case "q":
		a.conn.Close()
		a.gone = true
	default:
		p := []byte(verbs[verb].bytes)
		a.sent = append(a.sent, p...)
		_ = a.conn.Send(p) // as above
	}
}

// can returns the verbs that a client can do now.
func (a *actor) can() []string {
	switch {
	case a.conn == nil || a.gone || a.conn.Refused():
		return []string{"c"}
	case !a.open():
		return []string{"q"}
	}
	var can []string
	switch {
	case a.halfClosed:
	case len(a.sent) == 0:
		can = append(can, "h", "w", "l", "e")
	case !wholeRequest(a.sent):
		can = append(can, "r", "e")
	default:
		can = append(can, "e")
	}
	return append(can, "x", "q")
}

// state describes a client in a few words.
func (a *actor) state() words.Sentence {
	switch {
	case a.conn == nil:
		return words.Say("not connected")
	case a.conn.Refused():
		return words.Say("refused: nothing listens")
	case a.gone:
		return words.Say("gone")
	case !a.conn.Connected():
		return words.Say("tries to connect")
	case a.err != nil && len(a.got) > 0:
		return words.Say("has %d bytes, and then a reset", len(a.got))
	case a.err != nil:
		return words.Say("was reset")
	case string(a.got) == answer && a.end:
		return words.Say("has the answer, and end of file")
	case a.end && len(a.got) > 0:
		return words.Say("has another answer, and end of file")
	case a.end:
		return words.Say("has end of file, and no answer")
	case len(a.got) > 0:
		return words.Say("has the answer")
	case wholeRequest(a.sent):
		return words.Say("waits for its answer")
	case len(a.sent) > 0:
		return words.Say("has sent half a request")
	}
	return words.Say("connected")
}

// finish describes the clients, and says of each that waits what keeps it waiting.
func (w *performance) finish() {
	for _, a := range w.actors {
		w.result.Clients = append(w.result.Clients, Performer{a.Name, a.state(), a.can()})
		if w.result.Ended.Text == "" && a.open() && wholeRequest(a.sent) {
			w.result.Waits = append(w.result.Waits, w.waits(a))
		}
	}
}
