//go:build linux

package tour_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"lesson/docs"
	"lesson/internal/proof"
	"lesson/internal/site"
	"lesson/internal/tool/explore"
)

// TestSite uses the first page of an exported site as a reader does: opened from a folder,
// and from a host. It is tested here because the browser is here.
func TestSite(t *testing.T) {
	proof.OnlyExhaustive(t, "compiles the lessons for the browser: half a minute at first")
	if proof.Detector {
		t.Skip("the detector does not see into the browser")
	}
	b, _ := inABrowser(t)
	page, err := site.Page(t.Context(), "tour.html")
	proof.Must(t, err)
	dir := t.TempDir()
	file := filepath.Join(dir, "index.html")
	proof.Must(t, os.WriteFile(file, page, 0o644))
	t.Run("the two plays, from a folder", func(t *testing.T) { twoPlays(t, b, "file://"+file) })
	t.Run("each server takes part", func(t *testing.T) { everyServer(t, b, "file://"+file) })
	t.Run("a story is the one that explore tells", func(t *testing.T) { tellsStories(t, b, "file://"+file) })
	t.Run("the chapters' questions are asked", func(t *testing.T) { asksQuestions(t, b, "file://"+file) })
	t.Run("a moment is a link", func(t *testing.T) { moments(t, b, "file://"+file) })
	t.Run("the keyboard is enough", func(t *testing.T) { siteByKeyboard(t, b, "file://"+file) })
	t.Run("axe-core finds nothing", func(t *testing.T) { siteIsAccessible(t, b, "file://"+file) })
	host := httptest.NewServer(http.FileServer(http.Dir(dir)))
	defer host.Close()
	t.Run("it speaks Chinese, and keeps the choice", func(t *testing.T) { siteSpeaksChinese(t, b, host.URL) })
	t.Run("it is quick on a slow machine, from a host", func(t *testing.T) {
		siteIsQuick(t, b, host.URL)
	})
}

// openSite opens the page and waits until its servers run.
func (b *chrome) openSite(t *testing.T, url string, width int64, scheme string) *tab {
	t.Helper()
	p := b.open(t, url, width, 900, scheme)
	p.until("the servers run", `document.querySelector("#loading").textContent.startsWith("The servers are running")`)
	return p
}

// step reads the step that is shown.
const step = `document.querySelector("#steps [aria-current] code").textContent`

// outcome waits for words below the clients.
func (p *tab) outcome(words ...string) {
	p.Helper()
	for _, want := range words {
		p.until(want, fmt.Sprintf(`document.querySelector("#outcome").textContent.includes(%q)`, want))
	}
}

// lit waits until a line of the source is lit as the one in which a call is blocked.
func (p *tab) lit(text string) {
	p.Helper()
	p.until("the line is lit: "+text, fmt.Sprintf(
		`[...document.querySelectorAll("#source .blocked")].some(row => row.textContent.includes(%q))`, text))
}

// twoPlays is what the page is for: who has played both and stepped back can answer.
func twoPlays(t *testing.T, b *chrome, url string) {
	p := b.openSite(t, url, 380, "light")
	play := func(n int, selector string) string { return fmt.Sprintf(".play:nth-child(%d) %s", n, selector) }
	p.click(play(1, "[data-acts=ac-ah]"))
	p.until("a has sent half", step+` === "a sends half a request" || `+step+`.startsWith("read(4")`)
	p.click(play(1, "[data-acts=ac-ah-bc-bw]"))
	p.outcome("b waits for its answer, and the server is blocked in read(4", "in the accept queue.")
	p.lit("s.Kernel.Read(fd, buffer[:])")
	p.until("the accept queue", `document.querySelector("#kernel dd").textContent === "b"`)
	p.until("no question before a step back", `document.querySelector(".asked").hidden`)
	top := eval[float64](p, `scrollY`)
	p.click(play(1, "[data-back]"))
	p.click(play(1, "[data-back]"))
	p.until("b is not there yet", `document.querySelector("#kernel dd").textContent === "none"`)
	p.until("the page stays with the play", fmt.Sprintf(`Math.abs(scrollY - %f) < 400`, top))
	p.click(play(1, "label:nth-of-type(1) input"))
	p.until("a wrong choice", `document.querySelector(".says").textContent.startsWith("No.")`)
	p.click(play(1, "input[data-right]"))
	p.until("the right choice", `document.querySelector(".says").textContent.startsWith("Yes.")`)
	p.click(play(1, ".after [data-acts]"))
	p.until("epoll answers b", `document.querySelector("#client-b").textContent.includes("has the answer")`)

	p.click(play(2, "[data-server=epoll]"))
	p.until("reported again", `[...document.querySelectorAll("#steps code")].filter(c => c.textContent.includes("[3 IN]")).length === 2`)
	p.click(play(2, `[data-server="07-one-accept-per-edge"]`))
	p.outcome("b waits for its answer, and the server sleeps", "in the accept queue", "reported in step 8")
	p.lit("unix.EpollWait(")
	p.click(play(2, "[data-back]"))
	p.click(play(2, "input[data-right]"))
	p.until("the right choice", `document.querySelectorAll(".says")[1].textContent.startsWith("Yes.")`)
	p.click(play(2, ".after [data-acts]"))
	p.until("edgetriggered accepts until EAGAIN", `[...document.querySelectorAll("#steps code")].some(c => c.textContent === "accept4(3) = EAGAIN")`)
	p.until("b is answered", `document.querySelector("#client-b").textContent.includes("has the answer")`)
	p.until("nothing was loaded", `performance.getEntriesByType("resource").length === 0`)
	p.until("nothing is wider than a phone", `document.documentElement.scrollWidth <= innerWidth`)
}

// everyServer lets a client ask each server.
func everyServer(t *testing.T, b *chrome, url string) {
	p := b.openSite(t, url, 1280, "light")
	for _, s := range site.Servers {
		p.do(chromedp.SetValue(chromedp.CSS("#server"), s.Name))
		p.until(s.Name+" runs", fmt.Sprintf(`new URLSearchParams(location.hash.slice(1)).get("server") === %q`, s.Name))
		for _, act := range []string{"ac", "ah", "ar"} {
			p.click("#act-" + act)
		}
		p.until(s.Name+" answers", `document.querySelector("#client-a").textContent.includes("has the answer, and end of file")`)
		p.click("[data-act=m]")
		p.click("#act-aq")
		p.until("the line is in the source", `document.querySelector("#source .lit, #source .blocked") !== null || document.querySelector("#outcome").textContent !== ""`)
		p.click("#restart")
		p.until("from the beginning", `document.querySelector("#undo").disabled`)
	}
	// A thread for each connection: two calls are blocked.
	p.do(chromedp.SetValue(chromedp.CSS("#server"), "threaded"))
	p.click("[data-act=abc]")
	p.lit("s.Kernel.Accept4(")
	p.lit("s.Kernel.Read(fd, buffer[:])")
}

// tellsStories opens each story, and compares it with what `lesson explore --replay` tells.
func tellsStories(t *testing.T, b *chrome, url string) {
	p := b.openSite(t, url, 1280, "light")
	for _, s := range site.Stories {
		target, err := explore.Folder(t.Context(), filepath.Join("../../../docs/exercises", s.Server), []string{"{addr}"})
		proof.Must(t, err)
		want, err := target.Replay(t.Context(), s.Order)
		proof.Must(t, errors.Join(err, target.Close()))
		if want.Failure == nil {
			t.Errorf("%s: nothing goes wrong", s.Title)
			continue
		}
		p.do(chromedp.SetValue(chromedp.CSS("#story"), s.Order))
		p.outcome(want.Failure.Text)
		for i, text := range eval[[]string](p, `[...document.querySelectorAll("#steps code")].map(c => c.textContent)`) {
			if i >= len(want.Story.Steps) || text != want.Story.Steps[i].Text {
				t.Errorf("%s: step %d is %q, which explore does not tell", s.Title, i+1, text)
			}
		}
		p.until("its steps are as many", fmt.Sprintf(`document.querySelectorAll("#steps li").length === %d`, len(want.Story.Steps)))
		p.until("the command", fmt.Sprintf(`document.querySelector("#told").textContent.includes("--replay %s")`, s.Order))
		p.until("its server", fmt.Sprintf(`document.querySelector("#server").value === %q`, s.Server))
	}
	p.do(chromedp.KeyEvent(kb.ArrowLeft))
	eval[bool](p, `(document.activeElement.blur(), true)`)
	p.do(chromedp.KeyEvent(kb.ArrowLeft), chromedp.KeyEvent(kb.ArrowLeft))
	shown, link := eval[string](p, step), eval[string](p, `location.href`)
	q := b.openSite(t, link, 1280, "light")
	q.until("a link opens a story at its step", fmt.Sprintf(step+` === %q`, shown))
	q.click("#restart")
	q.until("the clients are the reader's again", `document.querySelector("#told").hidden && document.querySelector("#act-ac") !== null`)
}

// asksQuestions answers the questions of a chapter wrongly, and then rightly.
func asksQuestions(t *testing.T, b *chrome, url string) {
	chapters, err := site.Quiz(docs.English)
	proof.Must(t, err)
	p := b.openSite(t, url, 380, "light")
	p.until("each chapter is there", fmt.Sprintf(`document.querySelectorAll("#asks option").length === %d`, 1+len(chapters)))
	p.do(chromedp.SetValue(chromedp.CSS("#asks"), "1"))
	for i, q := range chapters[1].Questions {
		box := fmt.Sprintf("#questions fieldset:nth-child(%d)", i+1)
		choice := func(n int) string { return fmt.Sprintf("%s label:nth-of-type(%d) input", box, n+1) }
		p.click(choice((q.Right + 1) % len(q.Choices)))
		p.until("a wrong choice", fmt.Sprintf(`document.querySelector(%q).textContent.startsWith("Wrong. The answer is:")`, box+" .reason"))
		p.click(choice(q.Right))
		p.until("the right choice", fmt.Sprintf(`document.querySelector(%q).textContent.startsWith("Right.")`, box+" .reason"))
		if q.Proof != "" {
			p.until("its proof", fmt.Sprintf(`document.querySelector(%q).textContent.includes(%q)`, box+" .reason", q.Proof))
		}
		p.until("its reason", fmt.Sprintf(`(reason => {
			reason.innerHTML = %q;
			return document.querySelector(%q).textContent.includes(reason.textContent);
		})(document.createElement("div"))`, q.Reason, box+" .reason"))
	}
	p.until("nothing is wider than a phone", `document.documentElement.scrollWidth <= innerWidth`)
}

// moments opens links: the same acts show the same, at the step that was left.
func moments(t *testing.T, b *chrome, url string) {
	p := b.openSite(t, url, 1280, "light")
	p.click(".play [data-acts=ac-ah-bc-bw]")
	p.do(chromedp.KeyEvent(kb.ArrowLeft), chromedp.KeyEvent(kb.ArrowLeft), chromedp.KeyEvent(kb.ArrowLeft))
	const picture = `[...document.querySelectorAll("#steps, #kernel, #outcome, #where, #clients")].map(e => e.innerText).join("\n")`
	left := eval[string](p, picture)
	link := eval[string](p, `location.href`)
	q := b.openSite(t, link, 1280, "light")
	if got := eval[string](q, picture); got != left {
		t.Errorf("%s shows\n%s\nand was\n%s", link, got, left)
	}
	for _, bad := range []string{"#server=none&acts=ac", "#server=loop&acts=zz&step=-1", "#server=%3Cb%3E", "#acts=%"} {
		eval[bool](q, fmt.Sprintf(`(location.hash = %q, true)`, bad))
		q.until("a bad link does no harm", `document.querySelectorAll("#steps li").length > 0`)
	}
	q.until("the servers run", `document.querySelector("#loading").textContent.startsWith("The servers are running")`)
}

func siteByKeyboard(t *testing.T, b *chrome, url string) {
	p := b.openSite(t, url, 1280, "light")
	p.tabTo(".play [data-acts=ac-ah]")
	p.until("the focus can be seen", `getComputedStyle(document.activeElement).outlineStyle === "solid"`)
	p.do(chromedp.KeyEvent(kb.Enter))
	p.tabTo("#act-ar")
	p.do(chromedp.KeyEvent(kb.Enter))
	p.until("a is answered", `document.querySelector("#client-a").textContent.includes("has the answer")`)
	p.until("the focus stays with the client", `document.activeElement.closest(".card h3, .card") !== null`)
	last := eval[string](p, step)
	p.do(chromedp.KeyEvent(kb.ArrowLeft))
	p.until("a step back", fmt.Sprintf(`%s !== %q`, step, last))
	p.do(chromedp.KeyEvent(kb.End))
	p.until("and the end", fmt.Sprintf(`%s === %q`, step, last))
}

func siteIsAccessible(t *testing.T, b *chrome, url string) {
	source, err := axe()
	if err != nil {
		skip(t, err.Error())
	}
	p := b.openSite(t, url, 1280, "light")
	p.click(".play [data-acts=ac-ah-bc-bw]")
	p.click(".play [data-back]")
	p.click(".play input[data-right]")
	p.do(chromedp.SetValue(chromedp.CSS("#asks"), "3"))
	p.click("#questions input")
	eval[bool](p, `(document.querySelector("details").open = true)`)
	eval[bool](p, "("+"() => {"+source+"\nreturn true; })()")
	for _, width := range []int64{1280, 380} {
		for _, scheme := range []string{"light", "dark"} {
			p.window(width, 900, scheme)
			p.until("the page is drawn again", `new Promise(done => requestAnimationFrame(() => done(true)))`)
			p.accessible(fmt.Sprintf("%d %s", width, scheme))
		}
	}
}

// siteIsQuick measures with a processor that is four times slower: until the first act
// is possible, and how long an input waits.
func siteIsQuick(t *testing.T, b *chrome, url string) {
	first, delay := math.Inf(1), math.Inf(1)
	// The machine may be busy with something else, a page that is slow is slow each time.
	for round := 0; round < 3 && (first > 3000 || delay > 100); round++ {
		p := b.open(t, url, 380, 900, "light")
		throttle(p, 4)
		p.do(chromedp.Navigate(url + "/?again"))
		first = min(first, eval[float64](p, `new Promise(done => {
			const look = () => document.querySelector(".play button:not(:disabled)") ? done(performance.now()) : setTimeout(look, 10);
			look();
		})`))
		eval[bool](p, `(() => {
			window.delays = [];
			new PerformanceObserver(list => {
				for (const e of list.getEntries()) if (e.name === "keydown") delays.push(e.processingStart - e.startTime);
			}).observe({type: "event", durationThreshold: 16});
			return true;
		})()`)
		// Each server is acted on, and stepped through.
		for _, s := range site.Servers {
			p.do(chromedp.SetValue(chromedp.CSS("#server"), s.Name))
			p.click("[data-act=abc]")
			eval[bool](p, `(document.querySelector("[data-act=t]").focus(), true)`)
			for range 4 {
				p.do(chromedp.KeyEvent(" "), chromedp.KeyEvent(kb.ArrowLeft))
				time.Sleep(50 * time.Millisecond)
			}
		}
		delay = min(delay, eval[float64](p, `new Promise(done => setTimeout(() => done(Math.max(0, ...delays)), 300))`))
		throttle(p, 1)
		t.Logf("the first act is possible after %.0f ms, the longest input delay %.0f ms", first, delay)
	}
	if first > 3000 {
		t.Errorf("the first act is possible after %.0f ms, want 3000", first)
	}
	if delay > 100 {
		t.Errorf("input delay %.0f ms", delay)
	}
}

// throttle makes the page's processor that many times slower.
func throttle(p *tab, times float64) {
	p.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	_, err := chromedp.Call(ctx, emulation.SetCPUThrottlingRate, emulation.SetCPUThrottlingRateParams{Rate: times})
	proof.Must(p, err)
}
