//go:build linux

package tour

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"mime"
	"net"
	"net/http"
	"path"
	"strconv"
	"time"

	"lesson/docs"
	"lesson/internal/book"
	"lesson/internal/play"
	"lesson/internal/words"
)

// ourHeader is what every request of the page to the API has. A form on another site
// cannot set it, and a script there would have to ask first, and gets no answer.
const ourHeader = "X-Lesson-Tour"

// maxBody bounds what a page sends at once, in bytes: an act, escaped.
const maxBody = 8 * maxBytes

// Handler answers the pages. host and addr are where it listens: requests for
// another host are refused, since a name that leads here may be an attacker's (DNS
// rebinding).
func (t *Tour) Handler(host string, addr net.Addr) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", t.index)
	mux.HandleFunc("GET /assets/{file...}", t.asset)
	api := func(pattern string, f func(*http.Request) (any, error)) {
		mux.Handle(pattern, answer(f))
	}
	api("GET /api/book", t.getBook)
	api("GET /api/chapter/{id...}", getChapter)
	api("GET /api/source", t.getSource)
	api("POST /api/sessions", t.postSession)
	api("DELETE /api/sessions/{id}", t.endSession)
	api("POST /api/sessions/{id}/end", t.endSession)
	api("POST /api/sessions/{id}/servers", t.postServer)
	api("POST /api/sessions/{id}/acts", t.postAct)
	api("POST /api/sessions/{id}/scenario", t.postScenario)
	mux.HandleFunc("GET /api/sessions/{id}/recording", t.save)
	mux.HandleFunc("GET /api/sessions/{id}/events", t.stream)
	g := newGuard(host, addr)
	return g.around(mux)
}

// answer makes JSON of what f returns.
func answer(f func(*http.Request) (any, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sent, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		if err != nil {
			refuse(w, badRequest("not what was expected: %v", err))
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(sent))
		answered := asks(r.Context())
		result, err := f(r)
		answered()
		if err != nil {
			refuse(w, err)
			return
		}
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		_ = json.NewEncoder(w).Encode(result) // the page may have gone
	})
}

// refuse tells a page what is wrong.
func refuse(w http.ResponseWriter, err error) {
	var p *problem
	if !errors.As(err, &p) {
		p = &problem{status: http.StatusInternalServerError, what: sentenceOf(err)}
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(p.status)
	_ = json.NewEncoder(w).Encode(struct {
		Error string           `json:"error"`
		Hint  string           `json:"hint,omitempty"`
		Said  []words.Sentence `json:"said"` // both
	}{p.what.Text, p.advice.Text, []words.Sentence{p.what, p.advice}}) // the page may have gone
}

// body reads a request's JSON.
func body(r *http.Request, into any) error {
	decoder := json.NewDecoder(r.Body)
	if err := decoder.Decode(into); err != nil && err != io.EOF {
		return badRequest("not what was expected: %v", err)
	}
	return nil
}

func (t *Tour) index(w http.ResponseWriter, r *http.Request) { serveFile(w, "index.html") }

func (t *Tour) asset(w http.ResponseWriter, r *http.Request) { serveFile(w, r.PathValue("file")) }

// speechFile is the one file of the page that is not in its folder: other pages have it too.
const speechFile = "speech.js"

func serveFile(w http.ResponseWriter, name string) {
	text, err := fs.ReadFile(page(), path.Clean(name))
	if name == speechFile {
		text, err = []byte(words.Module), nil
	}
	if err != nil {
		refuse(w, notFound("no file %q", name))
		return
	}
	kind := mime.TypeByExtension(path.Ext(name))
	if path.Ext(name) == ".js" { // a machine's own table may say otherwise
		kind = "text/javascript; charset=utf-8"
	}
	w.Header().Set("Content-Type", kind)
	_, _ = w.Write(text) // the page may have gone
}

func (t *Tour) getBook(*http.Request) (any, error) { return t.contents(), nil }

func getChapter(r *http.Request) (any, error) {
	p, err := book.Find(r.PathValue("id"))
	if err != nil {
		return nil, notFound("%v", err)
	}
	if language := r.URL.Query().Get("lang"); language == docs.Chinese {
		if p, err = p.In(language); err != nil {
			return nil, err
		}
	}
	return p.Render()
}

// A source is a file, line by line.
type source struct {
	File  string         `json:"file"`
	Lines [][]book.Token `json:"lines"`
}

func (t *Tour) getSource(r *http.Request) (any, error) {
	file := r.URL.Query().Get("file")
	text, err := t.text(file)
	if err != nil {
		return nil, notFound("%v", err)
	}
	return source{file, book.Tokens(languageOf(file), text)}, nil
}

func (t *Tour) postSession(*http.Request) (any, error) {
	s, err := t.begin()
	if err != nil {
		return nil, err
	}
	return struct {
		ID  string        `json:"id"`
		Now time.Duration `json:"now"`
	}{s.id, clock.Now()}, nil
}

type nothing struct{}

func (t *Tour) endSession(r *http.Request) (any, error) {
	s, err := t.session(r.PathValue("id"))
	if err == nil {
		s.end()
	}
	return nothing{}, err
}

func (t *Tour) postServer(r *http.Request) (any, error) {
	s, err := t.session(r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	var order struct {
		Add, Remove, Again string
		Freeze, Ration     string // a server
		On                 bool   // or off
	}
	if err := body(r, &order); err != nil {
		return nil, err
	}
	id := ""
	switch {
	case order.Add != "":
		id, err = s.add(order.Add)
	case order.Remove != "":
		id, err = order.Remove, s.remove(order.Remove)
	case order.Again != "":
		id, err = order.Again, s.again(order.Again)
	case order.Freeze != "":
		id, err = order.Freeze, s.hold(order.Freeze, order.On, (*column).freeze)
	case order.Ration != "":
		id, err = order.Ration, s.hold(order.Ration, order.On, (*column).ration)
	default:
		err = badRequest("nothing to do").hint(`say {"add": "epoll"}, {"remove": "s1"} or {"again": "s1"}`)
	}
	return struct {
		Server string `json:"server"`
	}{id}, err
}

func (t *Tour) postAct(r *http.Request) (any, error) {
	s, err := t.session(r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	var a play.Act
	if err := body(r, &a); err != nil {
		return nil, err
	}
	if a, err = byHand(a); err != nil {
		return nil, err
	}
	return nothing{}, s.act(a, "page")
}

func (t *Tour) postScenario(r *http.Request) (any, error) {
	s, err := t.session(r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	var order scenarioOrder
	if err := body(r, &order); err != nil {
		return nil, err
	}
	return nothing{}, s.direct(order)
}

// save answers with the recording of a session.
func (t *Tour) save(w http.ResponseWriter, r *http.Request) {
	s, err := t.session(r.PathValue("id"))
	if err != nil {
		refuse(w, err)
		return
	}
	defer asks(r.Context())()
	page := newReadingPage(w, s.ctx)
	defer page.release()
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	if err := s.save(page); err != nil && !page.begun {
		refuse(w, err) // else the page or the session has gone, or the page does not read
	}
}

// A readingPage is a page that is written to, as long as it reads and the session lasts.
type readingPage struct {
	w       http.ResponseWriter
	control *http.ResponseController
	session context.Context
	begun   bool // something has been written
	release func()
}

// newReadingPage returns a page whose release must be called at the end.
func newReadingPage(w http.ResponseWriter, session context.Context) *readingPage {
	p := &readingPage{w: w, control: http.NewResponseController(w), session: session}
	// A page that does not read must not keep what an ended session had.
	stop := context.AfterFunc(session, func() { _ = p.control.SetWriteDeadline(time.Now()) })
	p.release = func() {
		if stop() {
			_ = p.control.SetWriteDeadline(time.Time{}) // for the next request
		}
	}
	return p
}

// Write writes to the page. It fails when the page has not read for writeWithin.
func (p *readingPage) Write(text []byte) (int, error) {
	p.begun = true
	if err := p.control.SetWriteDeadline(time.Now().Add(writeWithin)); err != nil {
		return 0, err
	}
	if err := p.session.Err(); err != nil {
		return 0, err
	}
	return p.w.Write(text)
}

// Flush sends what has been written.
func (p *readingPage) Flush() error { return p.control.Flush() }

// Bounds of a stream.
const (
	messageEvery = 50 * time.Millisecond
	nowEvery     = time.Second
	// writeWithin is how long a page may not read before it is given up. It reads
	// on where it was, when it comes back.
	writeWithin = 10 * time.Second
)

// A nowEvent says what time it is.
type nowEvent struct{ header }

// message sends a page events, one after the other. It fails when the page has gone, or
// does not read.
func (p *readingPage) message(seq int64, batch []event) error {
	if _, err := fmt.Fprintf(p, "id: %d\ndata: ", seq); err != nil {
		return err
	}
	if err := writeList(p, batch); err != nil {
		return err
	}
	if _, err := io.WriteString(p, "\n\n"); err != nil {
		return err
	}
	return p.Flush()
}

// stream tells a page what happens, as server-sent events.
func (t *Tour) stream(w http.ResponseWriter, r *http.Request) {
	s, err := t.session(r.PathValue("id"))
	if err != nil {
		refuse(w, err)
		return
	}
	done, err := s.follow()
	if err != nil {
		refuse(w, err)
		return
	}
	defer done()
	defer asks(r.Context())()
	// 0 when there is none, or nonsense: from the beginning.
	after, _ := strconv.ParseInt(r.Header.Get("Last-Event-ID"), 10, 64)
	events := s.journal.newReader(after)
	defer events.close()

	w.Header().Set("Content-Type", "text/event-stream")
	page := newReadingPage(w, s.ctx)
	defer page.release()
	// The bound on reading the request is not one on how long it is answered. A
	// connection that has no deadlines (a test's) has nothing to take back.
	_ = page.control.SetReadDeadline(time.Time{})
	if page.Flush() != nil { // the page learns that it is connected
		return
	}
	now := time.NewTicker(nowEvery)
	defer now.Stop()
	for {
		var batch []event
		select {
		case <-r.Context().Done():
			return
		case <-s.ctx.Done():
			return
		case <-now.C:
			batch = []event{&nowEvent{header{Seq: events.seq, At: clock.Now(), Type: "now"}}}
		case <-events.more:
			batch = events.next()
		}
		if len(batch) == 0 {
			continue
		}
		if page.message(events.seq, batch) != nil {
			return
		}
		select {
		case <-time.After(messageEvery):
		case <-r.Context().Done():
		case <-s.ctx.Done():
		}
	}
}
