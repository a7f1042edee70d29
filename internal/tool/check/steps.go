//go:build linux

package check

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"lesson/internal/observe/sockets"
	"lesson/internal/play"
	"lesson/internal/protocol"
	"lesson/internal/report"
)

// The steps of which the scripts are made. Their texts say "must" where the
// server is judged.

// The requests of the scripts. The terminator is in the second half: where it is
// cut in two, that is what the case is about.
const (
	half  = "GET / HTTP/1.0\r\nHost: "
	rest  = "check\r\n\r\n"
	whole = half + rest
	short = "GET / HTTP/1.0\r\n\r\n" // where each byte has a segment of its own

	// emptyLine is what may follow a request that is not answered yet: RFC 9112, section
	// 2.2, knows clients that send it, and lets servers ignore it.
	emptyLine = "\r\n"
)

// connect connects clients, one after the other.
func connect(names ...string) step {
	text := report.List(names) + verb(names, " connects", " connect")
	return step{text: text, prepares: true, do: func(t *trial) error {
		t.born = time.Now()
		for _, name := range names {
			c, err := t.dial()
			if err != nil {
				return err
			}
			t.joins(name, c)
		}
		return nil
	}}
}

// joins gives a name to a client that has just connected.
func (t *trial) joins(name string, c *play.Conn) {
	t.clients[name] = c
	delete(t.sent, name)
	delete(t.early, name)
	delete(t.filled, name)
}

func verb(names []string, one, many string) string {
	if len(names) == 1 {
		return one
	}
	return many
}

// send sends bytes in one go.
func send(name, text string) step {
	what := fmt.Sprintf("%s sends %s", name, shown(text))
	return step{text: what, prepares: true, do: func(t *trial) error { return t.sends(name, text) }}
}

// sends sends for a client, and remembers what it has sent.
func (t *trial) sends(name, text string) error {
	t.asks(name, text)
	t.sent[name] += text
	err := sending(t.clients[name].Send([]byte(text)))
	var f *failure
	if t.early[name] && errors.As(err, &f) {
		f.cause = firstRead
	}
	return err
}

// sendUrgent sends a byte of urgent data, which an event of its own reports: EPOLLPRI.
func sendUrgent(name string) step {
	return step{text: name + " sends a byte of urgent data (MSG_OOB)", prepares: true, do: func(t *trial) error {
		return sending(t.clients[name].SendUrgent('!'))
	}}
}

func shown(text string) string {
	if len(text) <= quotedBytes {
		return quote([]byte(text))
	}
	return fmt.Sprintf("%d bytes, %s", len(text), quote([]byte(text)))
}

func sending(err error) error {
	if err == nil {
		return nil
	}
	return fails("sending: "+err.Error(), "the server reads it, or at least lets it arrive")
}

// maySend sends what the server need not take any more.
func maySend(name, text string) step {
	s := send(name, text)
	return step{text: s.text, prepares: true, do: func(t *trial) error {
		if err := s.do(t); err != nil {
			t.note("%s: %v", name, err)
		}
		return nil
	}}
}

// taken waits until the server has read what was sent, so that what follows
// comes in a segment of its own. On another machine that cannot be seen: then it
// waits a while.
func taken(names ...string) step {
	return step{text: "the server must read that", prepares: true, do: func(t *trial) error {
		if !t.server.visible() {
			time.Sleep(pauseUnseen)
			return nil
		}
		for _, name := range names {
			if err := t.waitTaken(name); err != nil {
				return err
			}
		}
		err := t.comesToRest()
		for _, name := range names {
			t.noteEarly(name)
		}
		return err
	}}
}

// noteEarly remembers that a client has been answered before its request was complete.
func (t *trial) noteEarly(name string) {
	if new(protocol.Request).Add([]byte(t.sent[name])) != protocol.Incomplete {
		return
	}
	ours, err := sockets.Connection(t.clients[name].LocalAddr(), t.server.Addr)
	if err == nil && ours.Unread > 1 { // end of file counts as a byte
		t.early[name] = true
	}
}

// pauseUnseen is how long a server is given to read what cannot be seen.
const pauseUnseen = 50 * time.Millisecond

func (t *trial) waitTaken(name string) error {
	c := t.clients[name]
	read, err := t.untilSpun(spunFor, func() (bool, error) {
		theirs, err := t.theirs(c)
		if errors.Is(err, sockets.ErrNone) || t.server.Ended() {
			return true, nil // closed: the next step says what to think of it
		}
		return err == nil && theirs.Inode != 0 && theirs.Unread == 0, err
	})
	if err != nil || read {
		return err
	}
	got := fmt.Sprintf("not within %v", t.waited())
	return fails(got, "the server reads what has come").seeing(t, c)
}

// accepted waits until the server has accepted clients.
func accepted(names ...string) step {
	text := "the server must accept " + report.List(names)
	return step{text: text, prepares: true, do: func(t *trial) error {
		if !t.server.visible() {
			time.Sleep(pauseUnseen)
			return nil
		}
		for _, name := range names {
			if err := t.waitAccepted(t.clients[name]); err != nil {
				return err
			}
		}
		return nil
	}}
}

func (t *trial) waitAccepted(c *play.Conn) error {
	ok, err := t.untilSpun(spunFor, func() (bool, error) {
		theirs, err := t.theirs(c)
		if errors.Is(err, sockets.ErrNone) || t.server.Ended() {
			return true, nil
		}
		return err == nil && theirs.Inode != 0, err
	})
	if err != nil || ok {
		return err
	}
	got := fmt.Sprintf("not within %v", t.waited())
	return fails(got, "the server accepts the connection").seeing(t, c)
}

// answered demands the answer and then end of file, and closes.
func answered(names ...string) step {
	text := report.List(names) + " must be answered, and then read end of file"
	return step{text: text, do: func(t *trial) error {
		for i, name := range names {
			if err := t.expectAnswer(name); err != nil {
				return named(names, i, err)
			}
			// As clients do; a server that takes one at a time waits for it.
			_ = t.clients[name].Close()
		}
		return nil
	}}
}

// named says which of several clients a failure is about.
func named(names []string, i int, err error) error {
	var f *failure
	if len(names) > 1 && errors.As(err, &f) {
		named := *f
		named.got, named.later = names[i]+": "+f.got, i > 0
		return &named
	}
	return err
}

// dropped demands end of file, and no answer before it. A refusal is none.
func dropped(name string) step {
	text := name + " must read end of file, and no answer; a refusal (4xx) may come before it"
	return step{text: text, do: func(t *trial) error {
		got, end := t.read(name)
		closed := end == nil || errors.Is(end, play.ErrReset)
		if closed && len(got) > 0 && isRefusal(got) {
			t.note("refused with %s", t.words(got, end))
			return nil
		}
		if closed && len(got) == 0 {
			return nil
		}
		if len(got) > 0 {
			f := t.hears(t.clients[name], got, end, "no answer, and the connection closed")
			f.cause = endAsEnd
			if t.early[name] || t.answersEarly {
				f.cause = firstRead
			}
			return f
		}
		return t.hears(t.clients[name], got, end, "no answer, and the connection closed")
	}}
}

// refused demands that the connection is closed and the request not granted. Which words
// say so, and whether any do, is the server's business. A server that answers before the
// end of the request is what other cases are about.
func refused(name string) step {
	text := name + " must be refused: no 200, and the connection closed"
	return step{text: text, do: func(t *trial) error {
		got, end := t.read(name)
		closed := end == nil || errors.Is(end, play.ErrReset)
		switch {
		case closed && status(got) == 200:
			return unable{"the server answers before the end of the request has come"}
		case closed:
			t.note("refused with %s", t.words(got, end))
			return nil
		}
		return t.hears(t.clients[name], got, end,
			"a refusal, such as 431, or just the end of the connection")
	}}
}

func firstLine(p []byte) []byte {
	line, _, _ := bytes.Cut(p, []byte("\n"))
	return line
}

// answeredOrRefused demands an answer of the lessons. A server that answers in its own
// words may refuse the request, if that does not destroy what it says.
func answeredOrRefused(name string) step {
	text := name + " must be answered, and then read end of file; a server with an answer of its own may" +
		" refuse (4xx, or end of file)"
	return step{text: text, do: func(t *trial) error {
		got, end := t.read(name)
		return t.judgeOrRefused(name, got, end)
	}}
}

// judgeOrRefused judges what answeredOrRefused has read.
func (t *trial) judgeOrRefused(name string, got []byte, end error) error {
	orderly := end == nil && (len(got) == 0 || isRefusal(got))
	if !t.answer.lessons() && orderly {
		t.note("%s: refused with %s", name, t.words(got, end))
	} else if err := t.judgeAnswer(t.clients[name], got, end); err != nil {
		return err
	}
	_ = t.clients[name].Close()
	return nil
}

// answeredAtLineFeeds demands what answeredOrRefused does of a server that takes a lone line
// feed for the end of a line. RFC 9112, section 2.2, lets it do so, and does not demand it: a
// server that answers in its own words may wait for CR LF.
func answeredAtLineFeeds(name string) step {
	demand := answeredOrRefused(name)
	text := demand.text + ", or wait for CR LF"
	return step{text: text, do: func(t *trial) error {
		got, end := t.read(name)
		waits := len(got) == 0 && errors.Is(end, play.ErrTimeout)
		if !waits || t.answer.lessons() {
			return t.judgeOrRefused(name, got, end)
		}
		failed := t.hears(t.clients[name], got, end, fmt.Sprintf("%v, then end of file", t.answer))
		if t.clients[name].Send([]byte("\r\n\r\n")) != nil {
			return failed
		}
		got, end = t.read(name)
		if end == nil || len(got) > 0 { // whatever it makes of the lines before
			return unable{"the server waits for CR LF, as HTTP allows"}
		}
		return failed
	}}
}

// silence is long after the server has read.
const silence = 200 * time.Millisecond

// unanswered demands that nothing comes.
func unanswered(name string) step {
	text := fmt.Sprintf("%s must receive nothing for %v", name, silence)
	return step{text: text, do: func(t *trial) error {
		got, err := t.clients[name].Read(1, silence)
		switch {
		case errors.Is(err, play.ErrTimeout):
			return nil
		case err == nil:
			return t.tooEarly("an answer: "+quote(got)+"…", "nothing: the request is not complete")
		default:
			return t.tooEarly(t.words(got, ignoreEOF(err)), "nothing: the request is not complete")
		}
	}}
}

// tooEarly is the failure of a client that received something before its request was
// complete.
func (t *trial) tooEarly(got, want string) *failure {
	f := fails(got, want)
	f.heard = heardOther
	if t.answersEarly {
		f.cause = firstRead
	}
	return f
}

// unansweredOrRefused is unanswered for what is not valid HTTP: a server that answers in
// its own words may refuse it.
func unansweredOrRefused(name string) step {
	demand := unanswered(name)
	text := demand.text + "; a server with an answer of its own may refuse (4xx, or end of file)"
	return step{text: text, do: func(t *trial) error {
		if t.answer.lessons() {
			return demand.do(t)
		}
		got, end := t.clients[name].ReadAll(silence)
		switch {
		case len(got) == 0 && errors.Is(end, play.ErrTimeout):
			return nil
		case end == nil && (len(got) == 0 || isRefusal(got)):
			t.note("%s: refused with %s", name, t.words(got, end))
			return nil
		}
		return t.tooEarly(t.words(got, end), "nothing, or a refusal: the request is not complete")
	}}
}

func ignoreEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// next demands that the server continues: with the next client, or, if it serves
// only one, with a good end.
func next() step {
	return step{
		text:  "after that, the next two clients must be answered",
		once:  "after its one client, the server must end with status 0",
		after: true,
		do: func(t *trial) error {
			if t.model == Blocking {
				return t.goodEnd()
			}
			// What ends the server may still be on its way: let it come. On a
			// busy machine another thread can serve a client sooner.
			if err := t.comesToRest(); err != nil {
				return err
			}
			if err := t.serveOneMore(); err != nil {
				return err
			}
			return t.serveOneMore()
		},
	}
}

func (t *trial) serveOneMore() error {
	if err := t.ctx.Err(); err != nil { // of many clients, this is not the next
		return err
	}
	c, err := t.dial()
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.Send([]byte(whole)); err != nil {
		return sending(err)
	}
	got, end := t.readAll(c)
	return t.judgeAnswer(c, got, end)
}

func (t *trial) goodEnd() error {
	t.mayEnd = true
	if t.server.Proc == nil {
		return nil
	}
	ended, err := t.until(func() (bool, error) { return t.server.Ended(), nil })
	if err != nil {
		return err
	}
	const want = "the server has served its one client, and ends with status 0"
	if !ended {
		return fails(fmt.Sprintf("still running after %v", t.waited()), want).seeing(t, nil)
	}
	if how, ok := t.server.Proc.Status(); !ok {
		return fails(how, want)
	}
	return nil
}

// others demands that another client is served now.
func others() step {
	return own("another client must be answered meanwhile", func(t *trial) error {
		err := t.serveOneMore()
		var f *failure
		if errors.As(err, &f) && len(t.crowd) > 1 && f.leftWaiting() {
			f.otherwise = someOnly
		}
		return err
	})
}

func halfClose(name string) step {
	return step{text: name + " half-closes", prepares: true, do: func(t *trial) error {
		return sending(t.clients[name].HalfClose())
	}}
}

func closes(name string) step {
	return step{text: name + " closes", prepares: true, do: func(t *trial) error {
		return t.clients[name].Close()
	}}
}

// closedToo gives the server time to close its end as well. Whether it does is
// what other cases are about.
func closedToo(name string) step {
	const within = time.Second
	return step{text: "the server is given time to close, too", prepares: true, do: func(t *trial) error {
		_, err := until(t.ctx, within, func() (bool, error) {
			_, err := t.theirs(t.clients[name])
			if errors.Is(err, sockets.ErrNone) {
				return true, nil
			}
			return false, err
		})
		return err
	}}
}

func resets(names ...string) step {
	text := report.List(names) + verb(names, " resets", " reset")
	return step{text: text, prepares: true, do: func(t *trial) error {
		for _, name := range names {
			if err := t.clients[name].Reset(); err != nil {
				return err
			}
		}
		return nil
	}}
}

// reads reads the answer, but not the end.
func reads(name string) step {
	return step{text: name + " must receive the answer", do: func(t *trial) error {
		got, err := t.readAnswer(t.clients[name])
		if t.answer.equal(got) {
			return nil
		}
		return t.hears(t.clients[name], got, ignoreEOF(err), t.answer.String())
	}}
}

// stop stops the process: whatever comes now, it finds all at once.
func stop() step {
	return step{text: "the server is stopped (SIGSTOP)", prepares: true, do: func(t *trial) error {
		// What it was about to do, it must not do after what comes now.
		if err := t.comesToRest(); err != nil {
			return err
		}
		if err := t.server.Signal(unix.SIGSTOP); err != nil {
			return err
		}
		stopped, err := t.until(t.server.Stopped)
		if err == nil && !stopped {
			return unable{"the process does not stop"}
		}
		t.stopped = true
		return err
	}}
}

func goOn() step {
	return step{text: "the server continues (SIGCONT)", prepares: true, do: func(t *trial) error {
		t.stopped = false
		return t.server.Signal(unix.SIGCONT)
	}}
}

// many is n clients that connect, and each sends text.
func many(n int, text string) step {
	what := fmt.Sprintf("%d clients connect", n)
	if text != "" {
		what += ", and each sends " + shown(text)
	}
	return step{text: what + "; the server must accept each", prepares: true, do: func(t *trial) error {
		return t.gather(n, text)
	}}
}

// gather lets clients connect one by one: the next when the last has been
// accepted, so that each is an event of its own.
func (t *trial) gather(n int, text string) error {
	for range n {
		if err := t.queue(1, text); err != nil {
			return err
		}
		if !t.server.visible() {
			continue
		}
		if err := t.waitAccepted(t.crowd[len(t.crowd)-1]); err != nil {
			return err
		}
	}
	return nil
}

// queue lets clients connect without waiting for the server.
func (t *trial) queue(n int, text string) error {
	for range n {
		c, err := t.dial()
		if err != nil {
			return err
		}
		t.crowd = append(t.crowd, c)
		if text == "" {
			continue
		}
		if err := c.Send([]byte(text)); err != nil {
			return sending(err)
		}
	}
	return nil
}

// allTaken waits until the server has accepted them all and read what they sent.
func allTaken() step {
	return preparing(own("the server must read what they sent", (*trial).takesAll))
}

func (t *trial) takesAll() error {
	if !t.server.visible() {
		time.Sleep(pauseUnseen)
		return nil
	}
	var missing *play.Conn
	taken := 0
	ok, err := t.until(func() (bool, error) {
		for i, c := range t.crowd {
			theirs, err := t.theirs(c)
			if errors.Is(err, sockets.ErrNone) {
				continue
			}
			if err != nil {
				return false, err
			}
			if theirs.Inode == 0 || theirs.Unread > 0 {
				missing, taken = c, i
				return t.server.Ended(), nil
			}
		}
		return true, nil
	})
	if err != nil || ok {
		return err
	}
	got := fmt.Sprintf("not all within %v: one of them, %v", t.waited(), missing.LocalAddr())
	f := fails(got, "all accepted, and what they sent read").seeing(t, missing)
	if taken > 0 { // those before it were
		f.otherwise = someOnly
	}
	return f
}

func crowdSends(text string) step {
	what := "each of them sends " + shown(text)
	return step{text: what, prepares: true, do: func(t *trial) error {
		for _, c := range t.crowd {
			if err := c.Send([]byte(text)); err != nil {
				return sending(err)
			}
		}
		return nil
	}}
}

// crowdAnswered demands an answer for each of the crowd.
func crowdAnswered() step {
	return step{text: "each of them must be answered, and then read end of file", do: func(t *trial) error {
		errs := make([]error, len(t.crowd))
		t.sideBySide(len(t.crowd), func(i int) {
			got, end := t.readAll(t.crowd[i])
			if end == nil && t.answer.equal(got) {
				_ = t.crowd[i].Close() // or a server that takes one at a time waits for us
				return
			}
			f := fails(t.words(got, end), "")
			f.heard = t.hearing(got, end)
			errs[i] = f
		})
		return t.judgeCrowd(errs)
	}}
}

func (t *trial) judgeCrowd(errs []error) error {
	failed := slices.DeleteFunc(slices.Clone(errs), func(err error) bool { return err == nil })
	if len(failed) == 0 {
		return nil
	}
	var first *failure
	if !errors.As(failed[0], &first) {
		return failed[0]
	}
	got := fmt.Sprintf("%d of %d were not; the first: %s", len(failed), len(errs), first.got)
	f := fails(got, fmt.Sprintf("%d answers", len(errs))).seeing(t, nil)
	f.heard, f.cause = first.heard, first.cause
	return f
}

// atOnce connects n clients at the same time, and each is answered.
func atOnce(n int) step {
	text := fmt.Sprintf("%d clients come at the same time; each must be answered", n)
	return step{text: text, do: func(t *trial) error {
		errs := make([]error, n)
		t.sideBySide(n, func(i int) { errs[i] = t.converse(whole) })
		return t.judgeCrowd(errs)
	}}
}

// converse is a whole conversation of a well-behaved client.
func (t *trial) converse(request string) error {
	c, err := t.dial()
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.Send([]byte(request)); err != nil {
		return sending(err)
	}
	got, end := t.readAll(c)
	if end != nil || !t.answer.equal(got) {
		f := fails(t.words(got, end), "the answer, then end of file")
		f.heard = t.hearing(got, end)
		return f
	}
	return nil
}

// servesAFew lets the server set up what it sets up once.
func servesAFew() step {
	return preparing(own(fmt.Sprintf("%d clients are served", aFew), func(t *trial) error {
		return t.serveMany(aFew)
	}))
}

// own wraps what only one case does.
func own(text string, do func(*trial) error) step { return step{text: text, do: do} }

// readToEnd demands end of file, after the answer has been read.
func readToEnd(name string) step {
	return step{text: name + " must read end of file", do: func(t *trial) error {
		got, end := t.read(name)
		if end == nil && len(got) == 0 {
			return nil
		}
		return fails(t.words(got, end), "end of file")
	}}
}
