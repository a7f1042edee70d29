//go:build linux

package tour_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// termsInChinese are the Latin words that a Chinese page has, besides code, the log of calls and
// the text of a chapter: names of servers, files, calls and states, and words that are said
// in English.
var termsInChinese = strings.Fields(`lesson tour English x41
	loop threaded epoll blocking edgetriggered netpoll once eventloop go main
	one read per edge accept wait docs semantics md
	accept4 epoll_wait epoll_ctl epoll_create1 read send recv close shutdown SHUT_WR socket bind listen
	AF_INET SOCK_STREAM SOCK_NONBLOCK IN OUT ET ADD MOD DEL RDHUP HUP ERR forever bytes EAGAIN EMFILE
	EPOLLONESHOT ONESHOT EPOLLIN EPOLLOUT EPOLLET EPOLLRDHUP EPOLLHUP EPOLLERR ESTABLISHED CLOSE_WAIT FIN_WAIT FIN_WAIT1 FIN_WAIT2
	SIGSTOP SYN RST TCP fd goroutine cookie backlog Go Linux WebAssembly JavaScript JSON MiB KiB ms ns min
	GET HTTP OK Hello world Home End curl http`)

// english is a script that returns the Latin words that can be seen or heard on a page
// and are not among the terms.
var english = fmt.Sprintf(`(() => {
	const terms = new Set(%q.split(" "));
	const code = "script, style, noscript, template, svg, code, pre, .source, .files, .prose, #toc, #chapter-list, " +
		".request, #language, #add-server option, #questions, #asks, #source, #where .line, #log li:not(.log-act):not(.log-empty), #next, #previous";
	const found = [];
	const look = (where, text) => {
		for (const word of (text ?? "").replace(/https?:\S+|[\w./-]+\.go\b|\d\d-[\w-]+|200 OK\\r\\n[^]*/g, "").match(/[A-Za-z][A-Za-z0-9_]+/g) ?? []) {
			if (!terms.has(word)) found.push(where + ": " + text.trim());
		}
	};
	const nodes = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
	while (nodes.nextNode()) {
		const e = nodes.currentNode.parentElement;
		const seen = e.closest("option, .visually-hidden") || e.checkVisibility();
		if (seen && !e.closest(code)) look(e.tagName, nodes.currentNode.data);
	}
	for (const e of document.querySelectorAll("body *")) {
		for (const name of ["aria-label", "title", "placeholder", "label", "aria-valuetext"]) {
			if (!e.closest(code.replace(".source, .files, ", ""))) look(name, e.getAttribute(name));
		}
	}
	return [...new Set(found)];
})()`, strings.Join(termsInChinese, " "))

// isChinese fails the test for each text on the page that is left in English.
func (p *tab) isChinese(when string) {
	p.Helper()
	for _, text := range eval[[]string](p, english) {
		p.Errorf("%s: English is left: %s", when, text)
	}
}

const inChinese = `document.documentElement.lang === "zh-Hans"`

// speaksChinese switches the language of a page whose servers run. The page is that of
// another origin, so that the choice is not that of the other tests.
func speaksChinese(t *testing.T, b *chrome, url string) {
	url = strings.Replace(url, "127.0.0.1", "localhost", 1)
	p := b.openTour(t, url+"#04-level-triggered", 1280, 900, "light")
	p.act("a", "connect")
	p.act("a", "half")
	p.click("#add-client")
	p.act("b", "connect")
	p.act("b", "whole")
	p.until("loop shows which client waits", column("loop", " .stuck")+`?.textContent.includes("b must wait behind a")`)
	p.click("#language")
	p.until("the page is Chinese", inChinese+` && document.querySelector("#clients-title").textContent === "客户端"`)
	p.until("so is what is judged", column("loop", " .stuck")+`?.textContent.includes("队头阻塞")`)
	p.until("so is the chapter", `document.querySelector("#chapter").lang === "zh-Hans" &&
		document.querySelector("#chapter h1")?.textContent.includes("水平触发")`)
	p.until("its quotes still lead to the source", `document.querySelector(
		'#chapter figure.quote[data-file="epoll/eventloop.go"] figcaption a') !== null`)
	p.until("so is the list of chapters", `document.querySelector("#chapter-list").selectedOptions[0].text.includes("水平触发")`)
	eval[bool](p, `(document.querySelectorAll("details:not(#toc)").forEach(d => { d.open = true; }), true)`)
	p.isChinese("servers run")
	p.click(`.column[data-lesson=loop] [data-hold=freeze]`)
	p.until("the log says what was done", `document.querySelector("#log").textContent.includes("loop 被冻结")`)
	p.isChinese("a server is frozen")
	p.click("#look-back")
	p.until("the session is open", `!document.querySelector("#player").hidden`)
	p.isChinese("a step is shown")

	p.do(chromedp.Reload())
	p.until("the choice is kept", inChinese+` && document.querySelector(".card") !== null`)
	p.isChinese("the page begins")
	p.click("#language")
	p.until("the page is English", `document.documentElement.lang === "en" && document.querySelector("#clients-title").textContent === "Clients"`)
	p.until("so is the chapter", `document.querySelector("#chapter").lang === "en" &&
		document.querySelector("#chapter h1")?.textContent.includes("Level")`)
}

// exportSpeaksChinese switches the language of the second page of an exported site.
func exportSpeaksChinese(p *tab) {
	p.Helper()
	p.click("#language")
	p.until("the recording is Chinese", inChinese+` && document.querySelector("#player h2").textContent.startsWith("录制")`)
	p.until("so is the chapter", `document.querySelector("#chapter").lang === "zh-Hans"`)
	p.isChinese("a recording")
	p.do(chromedp.Reload())
	p.until("the choice is kept", inChinese+` && document.querySelector("#player h2")?.textContent.startsWith("录制")`)
	p.click("#language")
	p.until("the recording is English", `document.querySelector("#player h2").textContent.startsWith("Recording")`)
}

// siteSpeaksChinese switches the language of the first page, whose servers run in it.
func siteSpeaksChinese(t *testing.T, b *chrome, url string) {
	p := b.openSite(t, url, 380, "light")
	p.click("#language")
	p.until("the page is Chinese", inChinese)
	p.click(`.play [data-server="07-one-accept-per-edge"]`)
	p.outcome("b 在等响应", "全连接队列", "第 8 步")
	p.click(".play:nth-child(2) [data-back]")
	p.click(".play:nth-child(2) input[data-right]")
	p.until("the choice is judged", `document.querySelectorAll(".says")[1].textContent.startsWith("对。")`)
	eval[bool](p, `(document.querySelector("details").open = true)`)
	p.isChinese("a play")
	p.do(chromedp.Reload())
	p.until("the choice is kept", inChinese+` && document.querySelector("#loading").textContent.startsWith("服务器正在运行")`)
	p.outcome("b 在等响应")
	p.isChinese("a moment that is linked")
	p.click("#language")
	p.until("the page is English", `document.documentElement.lang === "en"`)
	p.outcome("b waits for its answer")
}
