//go:build linux

package tour_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"lesson/internal/lesson"
	"lesson/internal/proof"
	"lesson/internal/tool/explore"
)

// walkedStory opens the page that lesson explore --html writes, from a file, and walks
// through its steps. It is tested here because the browser is here.
func walkedStory(t *testing.T, b *chrome, _ string) {
	l, err := lesson.Find("loop")
	proof.Must(t, err)
	target, err := explore.Lesson(l)
	proof.Must(t, err)
	r, err := target.Replay(t.Context(), "silent:none:0")
	proof.Must(t, err)
	r.Target = `<b>loop</b>` // whatever a name is, it is text
	file := filepath.Join(t.TempDir(), "story.html")
	page, err := os.Create(file)
	proof.Must(t, err)
	proof.Must(t, r.HTML(page))
	proof.Must(t, page.Close())

	p := b.open(t, "file://"+file, 1280, 900, "light")
	last := r.Story.Steps[len(r.Story.Steps)-1]
	is := func(what string, at int) {
		t.Helper()
		step := r.Story.Steps[at]
		p.until(what, fmt.Sprintf(`document.querySelector("[aria-current] code").textContent === %q`, step.Text))
		p.until(what+": the position", fmt.Sprintf(
			`document.querySelector("#position").textContent === "step %d of %d" && slider.value === "%d"`,
			step.Number, last.Number, at))
		p.until(what+": the line", fmt.Sprintf(
			`(document.querySelector("#source .lit span")?.textContent ?? "0") === "%d"`, step.Line))
	}
	key := func(keys string) { p.do(chromedp.KeyEvent(keys)) }
	p.until("the name is text", `document.querySelector("h1").textContent === "<b>loop</b>, scenario silent"`)
	is("the first step", 0)
	key(kb.ArrowRight)
	key(kb.ArrowRight)
	is("two keys to the right", 2)
	key(kb.ArrowLeft)
	is("one to the left", 1)
	p.click("#next")
	is("the button to the right", 2)
	p.click("#steps li:nth-child(5) button")
	is("a step that is clicked", 4)
	eval[bool](p, `(slider.value = 3, slider.dispatchEvent(new Event("input")), true)`)
	is("the slider", 3)
	p.until("no verdict yet", `document.querySelector("#verdict").textContent === ""`)
	key(kb.End)
	is("the end", len(r.Story.Steps)-1)
	p.until("the verdict", fmt.Sprintf(`document.querySelector("#verdict").textContent === %q`, "FAILS: "+r.Failure.Text+"."))
	p.until("the accept queue", `document.querySelector("#kernel dd").textContent === "b"`)
	key(kb.Home)
	is("the beginning", 0)
	key(kb.ArrowRight)
	p.until("the address names the step", fmt.Sprintf(`location.hash === "#step=%d"`, r.Story.Steps[1].Number))
	link := eval[string](p, `location.href`)
	key(kb.End)
	p.do(chromedp.Navigate("about:blank"), chromedp.Navigate(link))
	is("a link opens at its step", 1)
	key(kb.End)
	if source, err := axe(); err == nil {
		eval[bool](p, "("+"() => {"+source+"\nreturn true; })()")
		p.accessible("1280 light")
		p.window(380, 900, "dark")
		p.accessible("380 dark")
	}
	p.until("nothing is wider than a phone", `document.documentElement.scrollWidth <= innerWidth`)
}
