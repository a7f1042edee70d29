//go:build linux

package tour_test

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"lesson/internal/book"
	"lesson/internal/play"
	"lesson/internal/proof"
	"lesson/internal/tool/tour"
)

// patience bounds every wait for a condition. The machine may be busy.
const patience = 30 * time.Second

// TestInABrowser runs the tour as a learner does: the command, and its page in a
// real browser. A browser takes much processor time: an ordinary run shows that clients,
// servers, timeline and book work in one, and leaves the rest to the exhaustive run.
func TestInABrowser(t *testing.T) {
	t.Parallel()
	b, url := inABrowser(t)
	for _, test := range []struct {
		name     string
		run      func(*testing.T, *chrome, string)
		ordinary bool
	}{
		{"a scenario plays act by act", scenarioSteps, false}, // those that take longest first
		{"axe-core finds nothing", axeFindsNothing, false},
		{"the exported site plays without a server", exportedSite, false},
		{"one act gets five reactions, on lines that are lit", fiveReactions, true},
		{
			"the second client waits in loop and not in epoll, and a box of the timeline lights its line",
			headOfLine, true,
		},
		{"an edge that is lost is seen", lostEdge, false},
		{"a chapter offers its server, and lights the lines that it names", namedLine, true},
		{"the text's ports are those of the columns", portsOfTheText, false},
		{"each column shows whole lines", wholeLines, false},
		{"the page speaks Chinese, and keeps the choice", speaksChinese, false},
		{"the keyboard is enough", keyboardOnly, false},
		{"a recording is saved and opened again", saveAndOpen, false},
		{"a story of explore is walked in both directions", walkedStory, false},
		{"a view that is paused does not change, and a bad recording is refused with the reason", pausedView, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			if !test.ordinary {
				proof.OnlyExhaustive(t, "in a browser; some seconds")
			}
			t.Parallel()
			test.run(t, b, url)
		})
	}
}

// inABrowser returns the browser and the address of the tour. Both are started once.
func inABrowser(t *testing.T) (*chrome, string) {
	t.Helper()
	if testing.Short() {
		t.Skip("needs a browser: -short")
	}
	if _, err := exec.LookPath("chromium"); err != nil {
		skip(t, "no chromium: apt-get install chromium")
	}
	if proof.Exhaustive() {
		go func() { _, _ = axe() }() // its error is for who asks
	}
	go func() { _, _ = sharedBrowser() }()
	url, err := sharedTour()
	proof.Must(t, err)
	b, err := sharedBrowser()
	proof.Must(t, err)
	return b, url
}

// skip says why a test is not run, and fails instead where all must be.
func skip(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s; with CI=true that is a failure", why)
	}
	t.Skip(why)
}

// command builds the program that is tested, with the race detector when the tests have
// it, and returns its path.
var command = sync.OnceValues(func() (string, error) {
	dir, err := tour.TempDir("lesson-command-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "lesson")
	// go run keeps the linked program in the build cache, and go build does not.
	arguments := []string{"run", "-exec", "cp"}
	if proof.Detector {
		arguments = append(arguments, "-race")
	}
	arguments = append(arguments, "lesson/cmd/lesson", path)
	if out, err := exec.Command("go", arguments...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("go run: %w\n%s", err, out)
	}
	return path, nil
})

var address = regexp.MustCompile(`http://127\.0\.0\.1:\d+/`)

// sharedTour runs `lesson tour` until the end, and returns its address.
var sharedTour = sync.OnceValues(func() (string, error) {
	path, err := command()
	if err != nil {
		return "", err
	}
	program := exec.Command(path, "tour", "--addr", "127.0.0.1:0")
	output, writer := io.Pipe()
	program.Stdout, program.Stderr = writer, writer
	if err := program.Start(); err != nil {
		return "", err
	}
	var said strings.Builder
	heard := make(chan struct{})
	tour.AtEnd(func() error {
		if err := program.Process.Signal(syscall.SIGINT); err != nil {
			return fmt.Errorf("the tour has ended by itself: %w", err)
		}
		err := program.Wait()
		_ = writer.Close() // a pipe in memory
		<-heard
		if err != nil {
			return fmt.Errorf("after Ctrl-C: %w\n%s", err, said.String())
		}
		return nil
	})
	found := make(chan string, 1)
	go func() {
		defer close(heard)
		lines := bufio.NewScanner(output)
		for lines.Scan() {
			said.WriteString(lines.Text() + "\n")
			if url := address.FindString(lines.Text()); url != "" && len(found) == 0 {
				found <- url
			}
		}
	}()
	select {
	case url := <-found:
		return url, nil
	case <-time.After(patience):
		return "", errors.New("lesson tour prints no address")
	}
})

// A chrome is a browser that has been started. Tests use its tabs one after the other:
// opening a tab costs more than loading the page in it.
type chrome struct {
	ctx   context.Context
	tabs  chan context.Context // that no test uses; nil is one that is not open yet
	blank string               // an empty page, of the site of the tour: so it needs no new process
}

// mostTabs is how many pages are open at the same time. On two processors, more of them
// only slow each other down.
const mostTabs = 3

var sharedBrowser = sync.OnceValues(func() (*chrome, error) {
	data, err := tour.TempDir("lesson-chromium-")
	if err != nil {
		return nil, err
	}
	ctx, endBrowser := chromedp.NewExecAllocator(context.Background(),
		chromedp.ExecPath("chromium"), chromedp.UserDataDir(data),
		chromedp.WSURLReadTimeout(2*patience), // the first start on a busy machine
		chromedp.Headless, chromedp.NoSandbox, chromedp.DisableGPU, chromedp.NoFirstRun,
		chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true),
		// Hidden tabs must continue to draw.
		chromedp.Flag("disable-background-timer-throttling", true),
		chromedp.Flag("disable-backgrounding-occluded-windows", true),
		chromedp.Flag("disable-renderer-backgrounding", true),
		// A page that was left must end, and not be kept for a way back.
		chromedp.Flag("disable-back-forward-cache", true),
		chromedp.Flag("hide-scrollbars", true))
	ctx, endTab := chromedp.NewContext(ctx)
	tour.AtEnd(func() error {
		endTab()
		endBrowser()
		return nil
	})
	if err := chromedp.Do(ctx); err != nil {
		return nil, fmt.Errorf("chromium does not start: %w", err)
	}
	blank := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `<link rel="icon" href="data:,">`) // the browser has gone
	}))
	tour.AtEnd(func() error { blank.Close(); return nil })
	b := &chrome{ctx: ctx, tabs: make(chan context.Context, mostTabs), blank: blank.URL}
	for range mostTabs {
		b.tabs <- nil
	}
	return b, nil
})

// A tab is one page. When its test ends, its console must be free of errors.
type tab struct {
	*testing.T
	ctx context.Context

	errors []string
	over   chan struct{} // closed when errors has all that the page wrote
}

// open opens a page in a window of that size and colour scheme ("light", "dark").
func (b *chrome) open(t *testing.T, url string, width, height int64, scheme string) *tab {
	t.Helper()
	p := &tab{T: t, ctx: <-b.tabs, over: make(chan struct{})}
	if p.ctx == nil {
		p.ctx, _ = chromedp.NewContext(b.ctx, chromedp.WithNewBrowserContext())
		if err := chromedp.Do(p.ctx); err != nil { // else it would end with listening
			b.tabs <- nil
			t.Fatalf("a new tab: %v", err)
		}
	}
	listening, stop := context.WithCancel(p.ctx)
	go p.listen(chromedp.Console(listening))
	t.Cleanup(func() {
		defer func() {
			stop()
			if t.Failed() { // the tab may be in any state
				_ = chromedp.Cancel(p.ctx)
				p.ctx = nil
			}
			b.tabs <- p.ctx
		}()
		if !t.Failed() {
			p.leave(b.blank)
		}
	})
	p.window(width, height, scheme)
	// As if its window were the one in front: else nothing in it gets the focus.
	focused := emulation.SetFocusEmulationEnabledParams{Enabled: true}
	if _, err := chromedp.Call(p.ctx, emulation.SetFocusEmulationEnabled, focused); err != nil {
		t.Fatal(err)
	}
	p.do(chromedp.Navigate(url))
	return p
}

// lastWords is the last line of a test's console.
const lastWords = "the test is over"

func (p *tab) listen(messages iter.Seq2[chromedp.ConsoleMessage, error]) {
	defer close(p.over)
	for message, err := range messages {
		if err != nil || strings.Contains(message.String(), lastWords) {
			return
		}
		if message.Type == chromedp.ConsoleError || message.IsException() {
			p.errors = append(p.errors, message.String())
		}
	}
}

// leave reports what the page wrote to the console, clears what it stored, and leaves it,
// which ends its session.
func (p *tab) leave(blank string) {
	eval[bool](p, fmt.Sprintf(`(localStorage.clear(), console.log(%q), true)`, lastWords))
	<-p.over
	for _, e := range p.errors {
		p.Errorf("console: %s", e)
	}
	p.do(chromedp.MouseEvent("mouseMoved", 0, 0), chromedp.Navigate(blank))
}

// window gives the page a window of that size and colour scheme. The page moves as little
// as for a reader who prefers that: to draw 15 times a second is most of its work.
func (p *tab) window(width, height int64, scheme string) {
	p.Helper()
	p.do(chromedp.EmulateViewport(width, height))
	p.media(scheme, "reduce")
}

// media sets the page's colour scheme and how much it moves ("reduce", "no-preference").
func (p *tab) media(scheme, motion string) {
	p.Helper()
	_, err := chromedp.Call(p.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{
			{Name: "prefers-color-scheme", Value: scheme},
			{Name: "prefers-reduced-motion", Value: motion},
		}})
	proof.Must(p, err)
}

// openTour opens the tour and waits until its first servers listen.
func (b *chrome) openTour(t *testing.T, url string, width, height int64, scheme string) *tab {
	t.Helper()
	p := b.open(t, url, width, height, scheme)
	want := 3
	if width >= 1900 {
		want = 4
	}
	p.until("the first servers listen", fmt.Sprintf(
		`document.querySelectorAll(".column .curl code").length == %d`, want))
	p.until("there is a card", `document.querySelector("[data-act=connect]") !== null`)
	return p
}

func (p *tab) do(actions ...chromedp.Action[chromedp.Void]) {
	p.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		p.Fatalf("browser: %v", err)
	}
}

// eval is the value of an expression in the page. A promise is waited for.
func eval[T any](p *tab, expression string) T {
	p.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, 2*patience)
	defer cancel()
	value, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		p.Fatalf("%s: %v", expression, err)
	}
	return value
}

// until waits until a condition of the page holds. It is the page that looks, which costs
// less than to ask it.
func (p *tab) until(what, condition string) {
	p.Helper()
	holds := eval[bool](p, fmt.Sprintf(`(async () => {
		for (const end = performance.now() + %d; performance.now() < end;) {
			if (await (%s)) return true;
			await new Promise(done => setTimeout(done, 10));
		}
		return false;
	})()`, patience.Milliseconds(), condition))
	if !holds {
		p.Fatalf("not within %v: %s\n%s\nthe page:\n%s", patience, what, condition,
			eval[string](p, `document.querySelector("#stage").innerText`))
	}
}

// click clicks an element once it does not move: what arrives from the servers may move it
// between the look at its place and the click.
func (p *tab) click(selector string) {
	p.Helper()
	eval[bool](p, fmt.Sprintf(`(async () => {
		const at = () => (r => r && [r.left, r.top].join())(document.querySelector(%q)?.getBoundingClientRect());
		for (let look = 0, before = ""; look < 20 && at() !== before; look++) {
			before = at();
			for (let i = 0; i < 2; i++) await new Promise(requestAnimationFrame);
		}
		return true;
	})()`, selector))
	p.do(chromedp.Click(chromedp.CSS(selector)))
}

// act presses a button of a client's card.
func (p *tab) act(client, what string) {
	p.Helper()
	selector := fmt.Sprintf(`.card[data-client=%s] [data-act=%s]`, client, what)
	p.until(client+" can "+what, fmt.Sprintf(
		`(b => b && b.getAttribute("aria-disabled") !== "true")(document.querySelector(%q))`, selector))
	if eval[bool](p, fmt.Sprintf(`(d => Boolean(d) && !d.open)(document.querySelector(%q).closest("details"))`, selector)) {
		p.click(fmt.Sprintf(`.card[data-client=%s] .more > summary`, client))
	}
	p.click(selector)
}

// add adds a column.
func (p *tab) add(name string) {
	p.Helper()
	eval[bool](p, fmt.Sprintf(`(s => { s.value = %q; return s.value === %[1]q; })(document.querySelector("#add-server"))`, name))
	p.click("#add-server-go")
	p.until("there is a column "+name, column(name, " .curl code")+" !== null")
}

// column is an element of a server's column.
func column(name, selector string) string {
	return fmt.Sprintf(`document.querySelector('.column[data-lesson="%s"]%s')`, name, selector)
}

// reaction waits for what a client's card says of a server.
func (p *tab) reaction(client, server, words string) {
	p.Helper()
	p.until(fmt.Sprintf("the card of %s says of %s: %s", client, server, words), fmt.Sprintf(
		`document.querySelector('.card[data-client=%s] [data-lesson="%s"] .reaction')?.textContent.includes(%q)`,
		client, server, words))
}

// badge waits for what stands over a column.
func (p *tab) badge(server, words string) {
	p.Helper()
	p.until(fmt.Sprintf("the badge of %s says: %s", server, words), fmt.Sprintf(
		`%s?.textContent.includes(%q)`, column(server, " .badges"), words))
}

// standsOn waits until the lit line of a column is that one, and can be seen.
func (p *tab) standsOn(server string, line int) {
	p.Helper()
	p.until(fmt.Sprintf("%s stands on line %d", server, line), fmt.Sprintf(`(() => {
		const row = %s;
		if (row?.dataset.line !== "%d" || row.getAttribute("aria-current") !== "step") return false;
		const [line, pane] = [row, row.closest(".source")].map(e => e.getBoundingClientRect());
		return line.top >= pane.top && line.bottom <= pane.bottom;
	})()`, column(server, " .src.current"), line))
}

// lineOf is the first line of a source file, after another text, that has a text.
func lineOf(t *testing.T, file, after, text string) int {
	t.Helper()
	source, err := book.Source(file)
	if err != nil {
		t.Fatal(err)
	}
	from := strings.Index(source, after)
	at := strings.Index(source[max(from, 0):], text)
	if from < 0 || at < 0 {
		t.Fatalf("%s has no %q after %q", file, text, after)
	}
	return 1 + strings.Count(source[:from+at], "\n")
}

// five opens a page with all five lessons.
func (b *chrome) five(t *testing.T, url string) *tab {
	t.Helper()
	p := b.openTour(t, url, 1920, 1080, "light")
	p.add("blocking")
	return p
}

func fiveReactions(t *testing.T, b *chrome, url string) {
	p := b.five(t, url)
	p.media("light", "no-preference")
	names := []string{"blocking", "loop", "threaded", "epoll", "edgetriggered"}
	p.act("a", "connect")
	for _, name := range names {
		p.reaction("a", name, "accepted; the server waits for a request")
	}
	p.act("a", "byte")
	for _, name := range names {
		p.reaction("a", name, "1 byte read; the server waits for more")
	}
	linesAreLit(p)
	p.do(chromedp.SetValue(chromedp.CSS("#own-a"), `ET / HTTP/1.0\x0d\n\n`))
	p.act("a", "own")
	for _, name := range names {
		p.reaction("a", name, "answered: HTTP/1.0 200 OK")
	}
	p.do(chromedp.SetValue(chromedp.CSS("#own-a"), `\xff\x1b<b>\x80é`))
	p.act("a", "own")
	p.until("bytes are sent as bytes, and other text as UTF-8",
		`document.querySelector("#log").textContent.includes("a sends 8 bytes: \\xff\\x1b<b>\\x80\\u00e9")`)
	p.act("a", "close")
	p.badge("blocking", "ended")
	p.badge("loop", "blocked in accept4")
	p.act("a", "connect")
	p.reaction("a", "blocking", "refused")
	p.act("a", "reset")
	p.badge("epoll", "waiting in epoll_wait")
	p.until("the log tells of the reset",
		`document.querySelector("#log").textContent.includes("a resets the connection")`)
}

// linesAreLit looks where each server stands that has read a part of a request.
func linesAreLit(p *tab) {
	read := lineOf(p.T, "blocking/once.go", ") readRequest(", "s.Kernel.Read(")
	for _, test := range []struct {
		lesson, badge string
		line          int
	}{
		{"blocking", "blocked in read", read},
		{"loop", "blocked in read", read},
		{"threaded", "blocked in read", read},
		{"epoll", "waiting in epoll_wait", lineOf(p.T, "epoll/eventloop.go", ") Serve(", "EpollWait(")},
		{"edgetriggered", "waiting in epoll_wait", lineOf(p.T, "edgetriggered/eventloop.go", ") Serve(", "EpollWait(")},
	} {
		p.badge(test.lesson, test.badge)
		p.standsOn(test.lesson, test.line)
	}
	// threaded is blocked in accept4, too: each thread has its mark.
	p.badge("threaded", "blocked in accept4")
	p.until("the mark of a at the lit line", column("threaded", " .src.current .gutter")+`.textContent === "a"`)
	p.until("a mark at the other", `document.querySelectorAll(".column[data-lesson=threaded] .src.standing").length === 2`)
}

func headOfLine(t *testing.T, b *chrome, url string) {
	p := b.openTour(t, url, 1280, 900, "light")
	p.act("a", "connect")
	p.act("a", "half")
	p.reaction("a", "loop", "16 bytes read")
	timelineBox(p)
	p.click("#add-client")
	p.act("b", "connect")
	p.act("b", "whole")
	p.reaction("b", "epoll", "answered")
	p.reaction("b", "threaded", "answered")
	p.reaction("b", "loop", "in the accept queue")
	p.until("loop shows which client waits behind which",
		column("loop", " .stuck")+`.textContent.includes("b must wait behind a")`)
	p.until("epoll says nothing of the kind", column("epoll", " .stuck")+`.hidden`)
	p.until("the accept queue of loop holds one",
		column("loop", " .queue")+`.textContent.includes("accept queue 1 of")`)
	p.act("a", "rest")
	p.act("a", "close")
	p.reaction("b", "loop", "answered")
	p.until("no client waits any more", column("loop", " .stuck")+`.hidden`)
	looksBack(p)
}

func lostEdge(t *testing.T, b *chrome, url string) {
	const server = "exercise/06-one-read-per-edge"
	p := b.openTour(t, url, 1280, 900, "light")
	p.add(server)
	p.act("a", "connect")
	p.reaction("a", server, "accepted")
	p.act("a", "long") // longer than what the server reads for one edge
	p.reaction("a", "epoll", "answered")
	p.until("the column says that the edge is gone",
		column(server, " .stuck")+`.textContent.includes("are unread")`)
	p.reaction("a", server, "not read yet")
	p.standsOn(server, lineOf(t, server+"/main.go", ") serve() {", "unix.EpollWait("))
	p.until("its interest list names EPOLLET",
		column(server, " .interest")+`.textContent.includes("EPOLLET")`)
}

func scenarioSteps(t *testing.T, b *chrome, url string) {
	p := b.openTour(t, url, 1280, 900, "light")
	p.until("there are scenarios", `document.querySelectorAll("#scenario option").length > 0`)
	p.click("#scenario-step")
	p.until("it is paused", `document.querySelector("#scenario-play").textContent.includes("Continue")`)
	p.click("#scenario-step")
	p.until("one act is behind us",
		`document.querySelector(".script [aria-current]")?.previousElementSibling`)
	p.click("#scenario-stop")
	p.until("it is stopped", `document.querySelector("#scenario-stop").hidden`)
	p.do(chromedp.SetValue(chromedp.CSS("#scenario-speed"), "4"))
	p.click("#scenario-play")
	p.until("it plays to its end", `document.querySelectorAll(".script li").length > 0 &&
		document.querySelectorAll(".script li:not(.past)").length === 0`)
	p.until("the log tells of its acts", `document.querySelectorAll("#log .log-act").length > 1`)
}

func namedLine(t *testing.T, b *chrome, url string) {
	p := b.openTour(t, url+"#05-edge-triggered", 1280, 900, "light")
	p.until("the chapter is there", `document.querySelector("#chapter h1")?.textContent.startsWith("5.")`)
	p.click("#run-beside")
	p.badge("edgetriggered", "waiting in epoll_wait")
	p.until("it need not be offered any more", `document.querySelector("#run-beside") === null`)

	p.do(chromedp.SetValue(chromedp.CSS("#chapter-list"), "04-level-triggered"))
	eval[bool](p, `document.querySelector("#chapter-list").dispatchEvent(new Event("change"))`)
	p.until("the chapter is open", `document.querySelector("#chapter h1")?.textContent.startsWith("4.")`)
	const link = `#chapter .sentence a.line[data-file="epoll/eventloop.go"]`
	p.until("the chapter names a line", fmt.Sprintf(`document.querySelector(%q) !== null`, link))
	line := eval[string](p, fmt.Sprintf(`document.querySelector(%q).dataset.line`, link))
	pointed := fmt.Sprintf(`document.querySelector('.column[data-lesson=epoll] .src.pointed[data-line="%s"]')`, line)

	eval[bool](p, fmt.Sprintf(`(document.querySelector(%q).focus(), true)`, link))
	p.until("the focus lights it", pointed+" !== null")
	eval[bool](p, `(document.activeElement.blur(), true)`)
	p.until("and it goes out", pointed+" === null")
	// The sentence around the link does the same for the pointer.
	p.do(chromedp.ScrollIntoView(chromedp.CSS(link)))
	proof.Eventually(p, "hovering the sentence lights it", func() bool {
		at := eval[[]float64](p, fmt.Sprintf(`(r => [r.left + 3, r.top + 8])(
			document.querySelector(%q).closest(".sentence").getClientRects()[0])`, link))
		p.do(chromedp.MouseEvent("mouseMoved", at[0], at[1]))
		return eval[bool](p, pointed+" !== null")
	})
	// A quoted piece of code leads to its place.
	p.click(`#chapter figure.quote[data-file="epoll/eventloop.go"] figcaption a`)
	p.until("all quoted lines are lit", `(f => document.querySelectorAll(".column[data-lesson=epoll] .src.pointed").length ===
		f.dataset.to - f.dataset.from + 1)(document.querySelector("#chapter figure.quote"))`)

	// Where its experiment begins, a button plays it.
	p.click(".play-this")
	p.until("the race of the chapter has begun", `document.querySelector("#scenario").value === "one-byte-at-a-time" &&
		document.querySelector(".script li.past") !== null`)

	p.do(chromedp.SendKeys(chromedp.CSS("#find"), "interest list"))
	p.until("the search finds it", `document.querySelector("mark.here")?.textContent.toLowerCase() === "interest list"`)
}

// portsOfTheText reads chapters beside their servers.
func portsOfTheText(t *testing.T, b *chrome, url string) {
	p := b.openTour(t, url+"#02-a-loop", 1280, 900, "light")
	command := func(number int) string {
		return fmt.Sprintf(`document.querySelectorAll("#chapter .command")[%d].textContent`, number)
	}
	p.until("the chapter starts a server of its own", command(0)+` === "go run ./cmd/lesson loop --trace --quiet"`)
	p.until("its client goes to the column", command(1)+fmt.Sprintf(` === "nc 127.0.0.1 %d"`, p.addr("loop").Port()))
	p.until("the text says where the server listens", fmt.Sprintf(
		`/loop listens on port %d, with descriptor \d+\./.test(document.querySelector("#chapter .place").textContent)`, p.addr("loop").Port()))
	eval[bool](p, `(document.querySelector('.column[data-lesson=loop] .column-title button').click(), true)`)
	p.until("without the column, the text is as it was written", command(1)+` === "nc 127.0.0.1 8080"`)
	p.until("and says of no server where it listens", `document.querySelector("#chapter .place").hidden`)

	eval[bool](p, `(location.hash = "#06-level-or-edge", true)`)
	p.until("a chapter about two servers plays a race", `document.querySelector("#chapter h1")?.textContent.startsWith("6.") &&
		document.querySelector(".play-this") !== null`)
	p.click(".play-this")
	p.until("on both", column("edgetriggered", "")+` !== null && `+column("epoll", "")+` !== null`)
	p.until("the race has begun", `document.querySelector("#scenario").value === "long-request" &&
		document.querySelector(".script li.past") !== null`)
}

// addr is where the server of a column listens: what the page tells to type.
func (p *tab) addr(server string) netip.AddrPort {
	p.Helper()
	command := eval[string](p, column(server, " .curl code")+".textContent")
	addr, err := netip.ParseAddrPort(strings.Trim(strings.TrimPrefix(command, "curl http://"), "/"))
	if err != nil {
		p.Fatalf("%s: %v", command, err)
	}
	return addr
}

// timelineBox looks at the timeline while loop is blocked in a read of a.
func timelineBox(p *tab) {
	p.media("light", "no-preference")
	p.until("loop has been blocked in read for a second", `/blocked in read, [1-9]\.\d s/.test(`+column("loop", " .badges")+`.textContent)`)
	p.do(chromedp.ScrollIntoView(chromedp.CSS("#timeline")))
	// The first lane is that of loop, and its right end is now.
	at := eval[[]float64](p, `(r => [r.left + r.width * 0.95, r.top + 12])(
		document.querySelector("#timeline canvas").getBoundingClientRect())`)
	p.do(chromedp.MouseClickXY(at[0], at[1]))
	p.until("the line of that call is lit", fmt.Sprintf(`%s?.dataset.line === "%d"`,
		column("loop", " .src.pointed"), lineOf(p.T, "blocking/once.go", ") readRequest(", "s.Kernel.Read(")))
	p.click("[data-time=earlier]")
	p.until("scrolled back, it does not follow",
		`document.querySelector("[data-time=now]").getAttribute("aria-pressed") === "false"`)
	p.click("[data-time=now]")
	p.until("and follows again",
		`document.querySelector("[data-time=now]").getAttribute("aria-pressed") === "true"`)
	p.media("light", "reduce")
}

// tabTo presses Tab until the focus is on an element.
func (p *tab) tabTo(selector string) {
	p.Helper()
	for range 400 {
		if eval[bool](p, fmt.Sprintf(`document.activeElement.matches(%q)`, selector)) {
			return
		}
		p.do(chromedp.KeyEvent(kb.Tab))
	}
	p.Fatalf("Tab does not reach %s", selector)
}

func keyboardOnly(t *testing.T, b *chrome, url string) {
	p := b.openTour(t, url, 1280, 900, "light")
	p.tabTo(".card [data-act=connect]")
	p.do(chromedp.KeyEvent(kb.Enter))
	p.reaction("a", "epoll", "accepted")
	p.until("the focus stays", `document.activeElement.dataset.act === "connect"`)
	p.tabTo(".card [data-act=half]")
	p.until("the focus can be seen", `getComputedStyle(document.activeElement).outlineStyle === "solid"`)
	p.do(chromedp.KeyEvent(" "))
	p.reaction("a", "loop", "16 bytes read")
	p.until("a screen reader gets what came of it",
		`document.querySelector("#say").textContent.includes("loop: 16 bytes read")`)
	title := eval[string](p, `document.querySelector("#chapter h1").textContent`)
	p.do(chromedp.KeyEvent(kb.ArrowRight))
	p.until("the arrow turns the page", fmt.Sprintf(`document.querySelector("#chapter h1").textContent !== %q`, title))
	p.do(chromedp.KeyEvent(kb.ArrowLeft))
	p.until("and back", fmt.Sprintf(`document.querySelector("#chapter h1").textContent === %q`, title))
	p.tabTo("#log")
	p.do(chromedp.KeyEvent(kb.ArrowDown))
	p.until("the log lights a line", `document.querySelector(".log .chosen") && document.querySelector(".src.pointed")`)
	p.tabTo("#freeze")
	p.do(chromedp.KeyEvent(" "))
	p.until("the view is paused", `document.querySelector("#freeze").getAttribute("aria-pressed") === "true"`)
}

func saveAndOpen(t *testing.T, b *chrome, url string) {
	p := b.openTour(t, url, 1280, 900, "light")
	dir := t.TempDir()
	_, err := chromedp.CallBrowser(p.ctx, browser.SetDownloadBehavior, browser.SetDownloadBehaviorParams{
		Behavior: "allow", DownloadPath: dir,
		BrowserContextID: chromedp.FromContext(p.ctx).BrowserContextID,
	})
	if err != nil {
		t.Fatal(err)
	}
	p.act("a", "connect")
	p.act("a", "half")
	p.badge("loop", "blocked in read")
	c, err := play.Dial(p.addr("epoll"))
	proof.Must(t, err)
	defer c.Close()
	p.until("a client from outside is shown",
		`document.querySelector(".outsiders:not([hidden])")?.textContent.includes("epoll: ")`)
	p.reaction("a", "loop", "16 bytes read") // the kernel has been heard, of both
	p.reaction("a", "epoll", "16 bytes read")
	p.click("#save")
	file := waitForFile(t, filepath.Join(dir, "*.json"))
	checkRecording(t, file)
	p.do(chromedp.SetUploadFiles(chromedp.CSS("#file"), []string{file}))
	p.until("the recording is open", `!document.querySelector("#player").hidden`)
	playToTheEnd(p)
	p.standsOn("loop", lineOf(t, "blocking/once.go", ") readRequest(", "s.Kernel.Read("))
	p.reaction("a", "epoll", "16 bytes read")
	p.click("#player-close")
	p.badge("loop", "blocked in read")

	// A recording of an earlier format is refused, and the live servers stay.
	old := filepath.Join(dir, "old.json")
	if err := os.WriteFile(old, []byte(`{"version":1,"log":[]}`), 0o644); err != nil {
		t.Fatal(err)
	}
	p.do(chromedp.SetUploadFiles(chromedp.CSS("#file"), []string{old}))
	p.until("it is refused", `document.body.textContent.includes("This recording has format 1")`)
	p.badge("loop", "blocked in read")
}

// A recording is a file from any source, so it is checked before it is played.
func badRecordings(p *tab) {
	const server = `{seq: 1, at: 1, type: "server", server: "s1", state: "listening"}`
	const damaged = "event 2 is not one of the tour's"
	for _, test := range []struct{ what, log, want string }{
		{"a server", server, ""},
		{"nothing", ``, "no server in this recording"},
		{"a time before the machine started", server + `, {seq: 2, at: -1e300, type: "now"}`, damaged},
		{"times that are a year apart", server + `, {seq: 2, at: 3e16, type: "now"}`, "longer than a week"},
		{"a name of 5 MB", server + `, {seq: 2, at: 2, type: "client", server: "s1",
			client: "x".repeat(5e6), state: "connected", sent: 0, got: ""}`, damaged},
		{"2,000 servers", `...Array.from({length: 2000}, (_, i) => ({seq: i, at: 1,
			type: "server", server: "s" + i, state: "listening"}))`, "more than 32 servers"},
		{"2,000 servers, one after the other", `...Array.from({length: 4000}, (_, i) => ({seq: i, at: 1,
			type: "server", server: "s" + (i >> 1), state: i % 2 ? "removed" : "listening"}))`, ""},
		{"100,000 connections", server + `, {seq: 2, at: 2, type: "kernel", server: "s1", threads: 1,
			conns: Array(1e5).fill({client: "a", peer: "p", fd: 1, state: "ESTABLISHED", unread: 0, unsent: 0})}`,
			damaged},
		{"a connection that is null", server + `, {seq: 2, at: 2, type: "kernel", server: "s1", threads: 1,
			conns: [null]}`, damaged},
		{"an act without an act", server + `, {seq: 2, at: 2, type: "act"}`, damaged},
		{"a call without its event", server + `, {seq: 2, at: 2, type: "call", server: "s1"}`, damaged},
		{"null", server + `, null`, damaged},
		{"more events than there can be", `...Array(3e5).fill(` + server + `)`, "more than 200000 events"},
	} {
		got := eval[string](p, `import("/assets/check.js").then(({check}) =>
			check({version: 2, log: [`+test.log+`]}))`)
		if test.want == "" && got != "" || !strings.Contains(got, test.want) {
			p.Errorf("%s: %q, want %q", test.what, got, test.want)
		}
	}
	for _, what := range []string{`null`, `"text"`, `{}`, `{version: 2, log: {}}`} {
		got := eval[string](p, `import("/assets/check.js").then(({check}) => check(`+what+`))`)
		if got != "This is not a recording of the tour." {
			p.Errorf("%s: %q", what, got)
		}
	}
}

// badgesTell looks at what is said over a column: a server that spins is not healthy, and
// one that no client waits for is not red.
func badgesTell(p *tab) {
	for _, test := range []struct{ what, server, state, words string }{
		{"it spins", `{kernel: {verdicts: [{kind: "spins", text: "It spins."}]}}`, "blocked", "spins"},
		{"it works", `{}`, "running", "running"},
		{"no client is there", `{open: [{name: "accept4"}], kernel: {listener: {queue: 0}}}`, "waiting", "accept4"},
		{"a client is in the queue", `{open: [{name: "accept4"}], kernel: {listener: {queue: 1}}}`, "blocked", "accept4"},
		{"a client is silent", `{open: [{name: "read"}]}`, "blocked", "read"},
	} {
		got := eval[[]string](p, `import("/assets/state.js").then(({badges}) => {
			const server = {state: "listening", ...`+test.server+`};
			server.open = new Map((server.open ?? []).map((c, i) => [i, {start: 0, ...c}]));
			const [badge] = badges(server, 1e9, {nameOf: () => ""});
			return [badge.state, badge.text];
		})`)
		if got[0] != test.state || !strings.Contains(got[1], test.words) {
			p.Errorf("%s: %q, want %q and %q", test.what, got, test.state, test.words)
		}
	}
}

// playToTheEnd steps through a recording.
func playToTheEnd(p *tab) {
	p.Helper()
	p.until("the recording has an end", `(() => {
		const slider = document.querySelector("#player-slider");
		for (let i = 0; i < 50 && slider.value !== slider.max; i++) document.querySelector("#player-step").click();
		return slider.value === slider.max;
	})()`)
}

// waitForFile waits for a whole file of JSON: the browser writes it piece by piece.
func waitForFile(t *testing.T, pattern string) (name string) {
	t.Helper()
	proof.Eventually(t, "a whole file "+pattern, func() bool {
		names, _ := filepath.Glob(pattern) // the pattern is right
		if len(names) == 0 {
			return false
		}
		name = names[0]
		text, err := os.ReadFile(name)
		return err == nil && json.Valid(text)
	})
	return name
}

func checkRecording(t *testing.T, file string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var recording struct {
		Version int
		Log     []struct{ Type string }
	}
	if err := json.Unmarshal(text, &recording); err != nil {
		t.Fatal(err)
	}
	if recording.Version != 2 || len(recording.Log) == 0 {
		t.Errorf("version %d, %d events", recording.Version, len(recording.Log))
	}
}

func pausedView(t *testing.T, b *chrome, url string) {
	p := b.openTour(t, url+"#%", 1280, 900, "light")
	p.media("light", "no-preference")
	p.badge("loop", "blocked in accept4")
	p.click("#freeze")
	const badges = `[...document.querySelectorAll(".badges")].map(b => b.textContent).join()`
	before := eval[string](p, badges)
	// The counters would have gone on three times meanwhile.
	eval[bool](p, `new Promise(done => setTimeout(() => done(true), 300))`)
	if after := eval[string](p, badges); after != before {
		t.Errorf("paused, the page continues from %q to %q", before, after)
	}
	p.click("#freeze")
	p.until("it continues", badges+fmt.Sprintf(" !== %q", before))
	badRecordings(p)
	badgesTell(p)
}

// axe is the source of axe-core. npm has it, and keeps it in its own cache.
var axe = sync.OnceValues(func() (string, error) {
	npm, err := exec.LookPath("npm")
	if err != nil {
		return "", errors.New("no npm: apt-get install npm")
	}
	dir, err := os.MkdirTemp("", "axe-core")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir) // a temporary folder that stays does no harm
	pack := exec.Command(npm, "pack", "--prefer-offline", "--silent", "axe-core@"+axeVersion)
	pack.Dir = dir
	if out, err := pack.CombinedOutput(); err != nil {
		return "", fmt.Errorf("npm pack axe-core: %w\n%s", err, out)
	}
	packed, err := os.ReadFile(filepath.Join(dir, "axe-core-"+axeVersion+".tgz"))
	if err != nil {
		return "", err
	}
	unzipped, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return "", err
	}
	for files := tar.NewReader(unzipped); ; {
		header, err := files.Next()
		if err != nil {
			return "", fmt.Errorf("axe.min.js in axe-core: %w", err)
		}
		if header.Name == "package/axe.min.js" {
			source, err := io.ReadAll(files)
			return string(source), err
		}
	}
})

const axeVersion = "4.14.1"

func axeFindsNothing(t *testing.T, b *chrome, url string) {
	source, err := axe()
	if err != nil {
		skip(t, err.Error())
	}
	p := b.openTour(t, url, 1280, 900, "light")
	p.act("a", "connect")
	p.act("a", "half")
	p.reaction("a", "loop", "16 bytes read")
	p.click("#add-client")
	p.act("b", "connect")
	p.act("b", "whole")
	p.until("loop says who waits", column("loop", " .stuck")+`.textContent !== ""`)
	eval[bool](p, "("+"() => {"+source+"\nreturn true; })()")
	for _, width := range []int64{1280, 380} {
		for _, scheme := range []string{"light", "dark"} {
			p.window(width, 900, scheme)
			p.until("the page is drawn again", `new Promise(done => requestAnimationFrame(() => done(true)))`)
			p.accessible(fmt.Sprintf("%d %s, run", width, scheme))
			if width < 900 {
				p.click(".views [data-view=read]")
				p.accessible(fmt.Sprintf("%d %s, read", width, scheme))
				p.click(".views [data-view=run]")
			}
		}
	}
	// Some steps back: the player, and all that belongs to that step.
	p.window(1280, 900, "light")
	p.click("#look-back")
	p.click("#player-back")
	for _, scheme := range []string{"light", "dark"} {
		for _, width := range []int64{1280, 380} {
			p.window(width, 900, scheme)
			p.until("the step is drawn", `document.querySelector("#stage").dataset.step !== undefined &&
				new Promise(done => requestAnimationFrame(() => done(true)))`)
			p.accessible(fmt.Sprintf("%d %s, a step", width, scheme))
		}
	}
}

// wholeLines looks at as many servers as a window has room for: no line is cut off.
func wholeLines(t *testing.T, b *chrome, url string) {
	for width, servers := range map[int64]int{1440: 3, 1920: 4} {
		t.Run(fmt.Sprintf("%d px", width), func(t *testing.T) {
			p := b.openTour(t, url, width, 1080, "light")
			p.act("a", "connect")
			p.act("a", "long")
			p.reaction("a", "epoll", "answered")
			p.until("each server has a line that is lit", fmt.Sprintf(
				`document.querySelectorAll(".column .src.current").length === %d`, servers))
			p.until("no line of the source is wider than its column", `[...document.querySelectorAll(".column .src code")]
				.every(line => line.scrollWidth <= line.clientWidth && line.getBoundingClientRect().right
					<= line.closest(".source").getBoundingClientRect().right)`)
			p.until("the log wraps", `(log => log.children.length > 0 && log.scrollWidth <= log.clientWidth)(document.querySelector("#log"))`)
			p.until("nothing is wider than the window", `document.documentElement.scrollWidth <= innerWidth`)
		})
	}
}

// accessible runs axe-core over what is shown.
func (p *tab) accessible(what string) {
	p.Helper()
	violations := eval[[]string](p, `axe.run(document, {resultTypes: ["violations"]}).then(r =>
		r.violations.map(v => v.id + ": " + v.help + ": " + v.nodes.map(n => n.target.join(" ")).join(", ")))`)
	for _, v := range violations {
		p.Errorf("%s: %s", what, v)
	}
}

// While all servers work, a key need not wait long until the page gets to it. The test
// measures time, so it runs alone.
func TestFiveBusyServersLeaveThePageResponsive(t *testing.T) {
	if proof.Detector {
		t.Skip("says nothing about speed: the race detector is on")
	}
	proof.OnlyExhaustive(t, "a page and five servers that work; 8 s")
	b, url := inABrowser(t)
	busy := 4 * time.Second
	if seconds, err := strconv.Atoi(os.Getenv("LESSON_TOUR_LOAD_SECONDS")); err == nil {
		busy = time.Duration(seconds) * time.Second
	}
	p := b.openTour(t, url, 1920, 1080, "light")
	p.media("light", "no-preference")
	p.add("netpoll")
	var clients sync.WaitGroup
	var answers atomic.Int64
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	for _, server := range []string{"loop", "threaded", "epoll", "edgetriggered", "netpoll"} {
		addr := p.addr(server)
		clients.Go(func() {
			if err := request(ctx, addr, &answers); err != nil {
				t.Errorf("%s: %v", server, err)
			}
		})
	}
	eval[bool](p, `(() => {
		window.delays = [];
		new PerformanceObserver(list => {
			for (const e of list.getEntries()) if (e.name === "keydown") delays.push(e.processingStart - e.startTime);
		}).observe({type: "event", durationThreshold: 16});
		document.querySelector("#page").focus();
		return true;
	})()`)
	// A page that is slow is slow in every round; a machine that is busy with
	// something else is not.
	delay := math.Inf(1)
	for round := 0; round < 5 && delay > 100; round++ {
		delay = min(delay, p.inputDelay(busy))
		t.Logf("input delay %.0f ms", delay)
	}
	if delay > 100 {
		t.Errorf("input delay %.0f ms", delay)
	}
	stop()
	clients.Wait()
	if answers.Load() == 0 {
		t.Error("no client was answered")
	}
	heap := eval[float64](p, `performance.memory.usedJSHeapSize / (1 << 20)`)
	t.Logf("%d answers; the page holds %.0f MiB", answers.Load(), heap)
	if heap > 400 {
		t.Errorf("the page holds %.0f MiB", heap)
	}
	p.badge("epoll", "waiting in epoll_wait")
}

// inputDelay presses keys for a while, and is how long a key waits until the page
// gets to it, in ms. As the web's own measure does, it forgives one in fifty.
func (p *tab) inputDelay(busy time.Duration) float64 {
	p.Helper()
	eval[bool](p, `(delays.length = 0, true)`)
	pressed := 0
	for end := time.Now().Add(busy); time.Now().Before(end); pressed++ {
		p.do(chromedp.KeyEvent(kb.ArrowDown))
		time.Sleep(50 * time.Millisecond)
	}
	// Keys that were handled and painted within 16 ms are not reported.
	delays := eval[[]float64](p, `new Promise(done => setTimeout(() => done(delays), 300))`)
	slices.Sort(delays)
	if n := len(delays) - 1 - pressed/50; n >= 0 {
		return delays[n]
	}
	return 0
}

// request asks a server 100 times a second, one client after the other.
func request(ctx context.Context, addr netip.AddrPort, answers *atomic.Int64) error {
	every := time.NewTicker(time.Second / 100)
	defer every.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-every.C:
		}
		c, err := play.Dial(addr)
		if err != nil {
			return err
		}
		err = c.Send([]byte("GET / HTTP/1.0\r\n\r\n"))
		if err == nil {
			_, err = c.ReadAll(patience)
		}
		if err := errors.Join(err, c.Close()); err != nil {
			return err
		}
		answers.Add(1)
	}
}

// exportedSite plays what `lesson tour --export` writes, from a server that knows nothing
// but files. It waits for the command, which plays each scenario at its own speed.
func exportedSite(t *testing.T, b *chrome, _ string) {
	dir := t.TempDir()
	path, err := command()
	proof.Must(t, err)
	if out, err := exec.Command(path, "tour", "--export", dir).CombinedOutput(); err != nil {
		t.Fatalf("lesson tour --export: %v\n%s", err, out)
	}
	tour.NoVerdicts(t, dir)
	site := http.NewServeMux()
	site.Handle("/some/where/", http.StripPrefix("/some/where/", http.FileServer(http.Dir(dir))))
	var asked atomic.Int64
	site.HandleFunc("/other/", func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		_, _ = io.WriteString(w, `{"lines": ["<b>"]}`) // the browser has gone
	})
	host := httptest.NewServer(site)
	defer host.Close()
	// The first page is TestSite's.
	p := b.open(t, host.URL+"/some/where/tour.html", 1280, 900, "light")
	p.until("the first recording is there", `!document.querySelector("#player").hidden`)
	p.until("its chapter is there", `document.querySelector("#chapter h1") !== null`)
	scenarios := eval[[]string](p, `[...document.querySelectorAll("#scenario option")].map(o => o.value)`)
	for _, name := range scenarios {
		p.do(chromedp.SetValue(chromedp.CSS("#scenario"), name))
		// Not with the mouse: the recording before may still move the button.
		eval[bool](p, `(document.querySelector("#scenario-play").click(), true)`)
		p.until(name+" is the recording that plays", `document.querySelector("#player h2").textContent
			=== "Recording " + document.querySelector("#scenario").selectedOptions[0].textContent`)
		playToTheEnd(p)
		p.until(name+" shows its servers", `document.querySelectorAll(".column .src.current").length > 0`)
		p.until(name+" shows its clients", `document.querySelectorAll(".card .reactions li").length > 0`)
	}
	stepsBack(p, scenarios[0])
	exportSpeaksChinese(p)

	// The files of a recording are names that may come from any source.
	evil := filepath.Join(t.TempDir(), "evil.json")
	proof.Must(t, os.WriteFile(evil, []byte(`{"version": 2, "log": [{"seq": 1, "at": 1, "type": "server",
		"server": "s1", "lesson": "epoll", "state": "listening", "files": ["../../../../other/evil", "<b>.go"]}]}`), 0o600))
	p.do(chromedp.SetUploadFiles(chromedp.CSS("#file"), []string{evil}))
	p.until("a file of another site is not shown",
		`document.querySelector(".column .src")?.textContent.includes("There is no source file ../../../../other/evil")`)
	if n := asked.Load(); n > 0 {
		t.Errorf("another site was asked %d times", n)
	}
}
