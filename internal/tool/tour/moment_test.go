//go:build linux

package tour_test

import (
	"fmt"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"lesson/internal/proof"
)

// pictures is a script that goes to a step of the recording and returns all that is shown
// there, once it is drawn: the columns, the clients, the log and the player.
const pictures = `window.picture = async step => {
	const frame = () => new Promise(requestAnimationFrame);
	const slider = document.querySelector("#player-slider");
	slider.value = step;
	slider.dispatchEvent(new Event("input"));
	const link = document.querySelector("#player-link").href;
	while (!link.endsWith("step=" + document.querySelector("#stage").dataset.step)) await frame();
	for (let i = 0; i < 6; i++) await frame();
	return ["#player", "#cards", "#columns", "#log"].map(s => {
		const copy = document.querySelector(s).cloneNode(true);
		for (const e of copy.querySelectorAll("[hidden]")) e.remove();
		for (const e of copy.querySelectorAll("[class]")) e.setAttribute("class", [...e.classList].sort().join(" "));
		return copy.innerHTML;
	}).join("\n");
}`

// disagreements is a script that returns the clients whose cards show other unread bytes than
// the columns do.
const disagreements = `window.disagreements = () => [...document.querySelectorAll(".card [data-lesson]")].flatMap(entry => {
	const unread = entry.querySelector(".reaction")?.textContent.match(/^(\d+) bytes? not read yet/)?.[1];
	const client = entry.closest(".card").dataset.client;
	const rows = document.querySelectorAll('.column[data-lesson="' + entry.dataset.lesson + '"] .kernel tbody tr');
	const row = [...rows].find(r => r.cells[0].textContent.trim() === client);
	return unread && row?.cells[2].textContent !== unread ? [client + " at " + entry.dataset.lesson + ": " + unread] : [];
})`

// stepsBack walks through a recording of an exported site: each step is the same picture
// whenever it is shown, and its link opens it.
func stepsBack(p *tab, scenario string) {
	p.Helper()
	every := 9
	if proof.Exhaustive() {
		every = 3 // a step takes a tenth of a second
	}
	eval[bool](p, fmt.Sprintf(`(location.hash = "#session=%s&step=0", true)`, scenario))
	p.until("the link opens the recording at its first step", `document.querySelector("#player-slider")?.value === "0" &&
		document.querySelector("#stage").dataset.step !== undefined`)
	eval[bool](p, "("+pictures+", "+disagreements+", true)")
	// The end first: then every file has been shown once.
	differ := eval[[]string](p, fmt.Sprintf(`(async () => {
		const steps = [], first = new Map(), differ = [];
		for (let i = Number(document.querySelector("#player-slider").max); i >= 0; i -= %d) steps.push(i);
		await picture(steps[0]);
		for (const i of steps) {
			first.set(i, await picture(i));
			for (const d of disagreements()) differ.push("at " + i + ", a card and a column disagree: " + d);
		}
		if (new Set(first.values()).size < steps.length / 2) differ.push("most steps are alike");
		for (const i of [...steps].reverse()) if (first.get(i) !== await picture(i)) differ.push("on the way forward: " + i);
		const [a, b] = [steps[1], steps.at(-2)];
		for (const i of [a, b, a]) if (first.get(i) !== await picture(i)) differ.push("after a jump: " + i);
		return differ;
	})()`, every))
	for _, d := range differ {
		p.Errorf("%s: a step is another picture: %s", scenario, d)
	}
	p.until("why an epoll_wait returned is shown", `(async () => {
		await picture(document.querySelector("#player-slider").max);
		return /because (a|b|h) (has|is)/.test(document.querySelector("#log").textContent);
	})()`)

	// The keys are those of a story of lesson explore.
	step := func() int {
		return eval[int](p, `Number(document.querySelector("#player-slider").value)`)
	}
	eval[bool](p, `(document.activeElement.blur(), true)`)
	last := step()
	for _, press := range []struct {
		key  string
		want int
	}{{kb.ArrowLeft, last - 1}, {kb.ArrowLeft, last - 2}, {kb.ArrowRight, last - 1}, {kb.Home, 0}, {kb.End, last}} {
		p.do(chromedp.KeyEvent(press.key))
		if got := step(); got != press.want {
			p.Errorf("a key shows step %d, not %d", got, press.want)
		}
	}
	p.do(chromedp.KeyEvent(kb.ArrowLeft))
	p.until("the address is the link", `location.href === document.querySelector("#player-link").href`)
	want := eval[string](p, fmt.Sprintf(`picture(%d)`, last/2))
	link := eval[string](p, `document.querySelector("#player-link").href`)
	p.do(chromedp.Navigate("about:blank"), chromedp.Navigate(link))
	p.until("the link opens at the step", `document.querySelector("#player-link")?.href === location.href &&
		document.querySelector("#stage").dataset.step !== undefined`)
	eval[bool](p, "("+pictures+", true)")
	same := eval[bool](p, fmt.Sprintf(`(async () => {
		await picture(document.querySelector("#player-slider").max); // all files are loaded
		return await picture(%d) === %q;
	})()`, last/2, want))
	if !same {
		p.Errorf("%s: another picture than before the link", link)
	}
}

// looksBack steps back through what has happened on a page whose servers run.
func looksBack(p *tab) {
	p.Helper()
	p.click("#look-back")
	p.until("the session so far is open, at its end", `(s => s && s.value === s.max)(document.querySelector("#player-slider"))`)
	p.until("the keyboard is at Back", `document.activeElement.id === "player-back"`)
	p.until("some steps back, b waits behind a", fmt.Sprintf(`(() => {
		document.activeElement.dispatchEvent(new KeyboardEvent("keydown", {key: "ArrowLeft", bubbles: true}));
		return %s?.textContent.includes("b must wait behind a") &&
			%s?.textContent.includes("blocked in read");
	})()`, column("loop", " .stuck"), column("loop", " .badges")))
	p.reaction("b", "loop", "in the accept queue, with 18 bytes")
	p.click("#player-close")
	p.badge("loop", "blocked in accept4")
}
