// The book: its chapters, the turning of pages, the search in one, and the way
// from its words to the lines of the source.

import { chapter } from "./api.js";
import { byID, h, icon, say, setText, toast } from "./dom.js";
import { language, said, tag, words } from "./language.js";

const PREFIX = "text-"; // of the ids of a chapter's elements

const STARTS = /^(?:go run \.\/cmd\/)?lesson (\w+)/; // a command that starts a server, or a tool
const PLAIN = /^(?:go run \.\/cmd\/)?lesson \w+(?: --trace| --quiet)*$/; // with the options that columns have

/** Book shows one page. about(id): the lesson that a page is about; beside(id): its server,
 * unless it runs; plays(id): the races that show what it tells of, each with its title and
 * play(); pointer: point(file, from, to, open) and unpoint(). */
export class Book {
  constructor(pages, about, beside, plays, pointer) {
    this.pages = pages;
    this.about = about;
    this.beside = beside;
    this.plays = plays;
    this.pointer = pointer;
    this.list = byID("chapter-list");
    this.article = byID("chapter");
    this.pane = byID("page");
    this.current = -1;
    this.hits = [];
    this.place = null; // where the chapter says where its server listens
    this.build();
  }

  /** title is that of a page in the language, as far as it has been translated. */
  title(page) {
    return (language() === "zh" && page.chinese) || page.title;
  }

  titleOf(id) {
    const page = this.pages.find((p) => p.id === id);
    return page ? this.title(page) : "";
  }

  /** languageOf is the one in which a page is shown. */
  languageOf(page) {
    return language() === "zh" && page.chinese ? "zh" : "en";
  }

  /** again shows the book in another language. */
  again() {
    this.buildList();
    const id = this.pages[this.current].id;
    this.current = -1;
    return this.open(id, "");
  }

  buildList() {
    const groups = new Map();
    for (const page of this.pages) {
      const kind = page.kind ?? (/^\d/.test(page.id) ? "chapter" : page.id.startsWith("exercises/") ? "exercise" : "page");
      if (!groups.has(kind)) groups.set(kind, h("optgroup", { label: words(`group.${kind}`) }));
      const number = kind === "chapter" ? page.id.match(/^\d+/)?.[0] : "";
      groups.get(kind).append(h("option", { value: page.id }, number && !/^\d/.test(page.title) ? `${Number(number)}. ${this.title(page)}` : this.title(page)));
    }
    this.list.replaceChildren(...groups.values());
  }

  build() {
    this.buildList();
    this.list.addEventListener("change", () => this.go(this.list.value));
    byID("previous").addEventListener("click", () => this.turn(-1));
    byID("next").addEventListener("click", () => this.turn(1));
    addEventListener("hashchange", () => this.fromHash());
    document.addEventListener("keydown", (event) => this.key(event));
    this.article.addEventListener("click", (event) => this.click(event));
    for (const type of ["pointerover", "focusin"]) this.article.addEventListener(type, (event) => this.over(event));
    for (const type of ["pointerout", "focusout"]) this.article.addEventListener(type, (event) => this.out(event));
    this.buildSearch();
  }

  /** fromHash opens what the address names: #04-level-triggered/the-loop. */
  fromHash() {
    const name = decoded(location.hash.slice(1));
    const page = this.pages.filter((p) => name === p.id || name.startsWith(`${p.id}/`))
      .sort((a, b) => b.id.length - a.id.length)[0];
    if (page) return this.open(page.id, name.slice(page.id.length + 1));
    if (this.current < 0) return this.open(this.pages[0].id, "");
    return undefined;
  }

  go(id, anchor = "") {
    const hash = `#${id}${anchor ? `/${anchor}` : ""}`;
    if (location.hash === hash) return this.open(id, anchor);
    location.hash = hash; // and fromHash opens it
    return undefined;
  }

  turn(by) {
    const next = this.pages[this.current + by];
    if (next) this.go(next.id);
  }

  async open(id, anchor) {
    const index = this.pages.findIndex((p) => p.id === id);
    if (index !== this.current) {
      this.current = index;
      let page;
      try {
        page = await chapter(id, this.languageOf(this.pages[index]));
      } catch (error) {
        toast(words("book.failed", { error: error.message }));
        return;
      }
      if (this.current !== index) return; // turned on meanwhile
      this.show(page);
    }
    const target = anchor && this.article.querySelector(`[id="${CSS.escape(PREFIX + anchor)}"]`);
    if (target) {
      target.scrollIntoView({ block: "start" });
      target.setAttribute("tabindex", "-1");
      target.focus({ preventScroll: true });
    } else this.pane.scrollTop = 0;
  }

  show(page) {
    this.article.lang = tag(this.languageOf(this.pages[this.current]));
    this.article.innerHTML = page.html; // rendered by our program, from its own pages
    // A chapter with a heading "Next" must not get in the way of the page's own ids.
    for (const element of this.article.querySelectorAll("[id]")) element.id = PREFIX + element.id;
    this.list.value = page.id;
    document.title = words("title", { page: page.title });
    const entries = page.toc.filter((t) => t.level === 2 || t.level === 3);
    byID("toc").hidden = entries.length === 0;
    byID("toc").querySelector("ol").replaceChildren(...entries.map((t) =>
      h("li", { class: `level-${t.level}` }, h("a", { href: `#${page.id}/${t.anchor}` }, t.text))));
    // Headings in the article stand below the page's own.
    for (const heading of this.article.querySelectorAll("h2[id], h3[id]")) {
      heading.append(h("a", { class: "anchor", href: `#${page.id}/${heading.id.slice(PREFIX.length)}`, "aria-label": words("book.anchor", { heading: heading.textContent }) }, "#"));
    }
    for (const table of this.article.querySelectorAll("table")) {
      const box = h("div", { class: "table-box", tabindex: "0", role: "region", "aria-label": words("book.table") });
      table.replaceWith(box);
      box.append(table);
    }
    this.offer(page.id);
    this.offerRaces(page.id);
    markSentences(this.article);
    this.names();
    this.search();
    say(page.title);
  }

  /** offer puts a button under the title: run what this page is about. */
  offer(id) {
    const server = this.beside(id);
    if (!server) return;
    const button = h("button", { type: "button", id: "run-beside", onclick: async () => {
      await server.run();
      button.remove();
    } }, icon("running"), h("span", {}, server.words));
    this.article.querySelector("h1")?.after(button);
  }

  /** offerRaces puts a button for each race of a chapter where its experiment begins. */
  offerRaces(id) {
    const races = this.plays(id).map(({ title, play }) =>
      h("button", { type: "button", class: "play-this", onclick: play }, icon("running"), h("span", {}, words("book.play", { title: said(title) }))));
    const heading = this.article.querySelector(`[id="${PREFIX}run-it"]`) ?? this.article.querySelector("h1");
    this.place = h("p", { class: "place", hidden: true });
    this.reached = null;
    heading?.after(this.place);
    if (races.length > 0) heading?.after(h("p", { class: "plays" }, ...races));
  }

  /** reach says where the chapter's server listens, if it runs beside the text, and puts the
   * ports of such servers into the commands of the chapter's experiment. */
  reach(servers, labelOf) {
    const key = `${this.current} ${language()} ${servers.map((s) => `${s.id} ${s.addr} ${s.listener}`)}`;
    if (this.reached === key || !this.place) return;
    this.reached = key;
    const port = (server) => server.addr.split(":").at(-1);
    const find = (lesson) => servers.find((s) => s.lesson === lesson);
    let server = null; // that the commands are about
    for (const element of this.experiment(".command")) {
      element.dataset.was ??= element.textContent;
      const started = element.dataset.was.match(STARTS);
      if (started) server = PLAIN.test(element.dataset.was) ? find(started[1]) : null;
      else setText(element, server ? element.dataset.was.replace(/(127\.0\.0\.1[: ]|= :)8080\b/g, `$1${port(server)}`) : element.dataset.was);
    }
    const own = find(this.about(this.pages[this.current]?.id));
    setText(this.place, own ? words(own.listener === null ? "book.place" : "book.place-fd",
      { server: labelOf(own), port: port(own), fd: own.listener }) : "");
    this.place.hidden = !own;
  }

  /** experiment returns the elements of the chapter's section Run it that a selector names. */
  experiment(selector) {
    const begins = this.article.querySelector(`[id="${PREFIX}run-it"]`);
    const ends = this.article.querySelector(`[id="${PREFIX}run-it"] ~ h2`);
    const after = (a, b) => a.compareDocumentPosition(b) & Node.DOCUMENT_POSITION_FOLLOWING;
    return begins ? [...this.article.querySelectorAll(selector)].filter((e) => after(begins, e) && !(ends && after(ends, e))) : [];
  }

  names() {
    for (const [id, by] of [["previous", -1], ["next", 1]]) {
      const page = this.pages[this.current + by];
      const button = byID(id);
      button.disabled = !page;
      setText(button.querySelector(".turn-title"), page ? this.title(page) : words(`book.${id}`));
      button.setAttribute("aria-label", page ? words(`book.${id}.label`, { title: this.title(page) }) : words(`book.${id}`));
    }
  }

  key(event) {
    if (event.defaultPrevented || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
    if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
    if (event.target.closest("input, select, textarea, pre, .source, .log, .timeline, .columns, .table-box")) return;
    event.preventDefault();
    this.turn(event.key === "ArrowLeft" ? -1 : 1);
  }

  click(event) {
    const link = event.target.closest("a");
    if (!link) return;
    if (link.classList.contains("line")) {
      event.preventDefault();
      const figure = link.closest("figure");
      const to = figure && link.closest("figcaption") ? Number(figure.dataset.to) : Number(link.dataset.line);
      this.pointer.point(link.dataset.file, Number(link.dataset.line), to, true);
    } else if (link.dataset.chapter) {
      event.preventDefault();
      this.go(link.dataset.chapter, link.dataset.anchor);
    }
  }

  /** target is what the pointer or the focus is on: a line that is named. */
  target(event) {
    const code = event.target.closest?.(".quote .codeline");
    if (code) return { file: code.closest("figure").dataset.file, line: Number(code.dataset.line) };
    const link = event.target.closest?.("a.line") ?? event.target.closest?.(".sentence")?.querySelector("a.line");
    return link ? { file: link.dataset.file, line: Number(link.dataset.line), link } : null;
  }

  over(event) {
    const at = this.target(event);
    if (!at) return;
    const figure = at.link?.closest("figcaption")?.parentNode;
    this.pointer.point(at.file, at.line, figure ? Number(figure.dataset.to) : at.line, false);
  }

  out(event) {
    if (this.target(event)) this.pointer.unpoint();
  }

  buildSearch() {
    const field = byID("find");
    field.addEventListener("input", () => this.search());
    field.addEventListener("keydown", (event) => {
      if (event.key === "Enter") {
        event.preventDefault();
        this.hit(event.shiftKey ? -1 : 1);
      }
      if (event.key === "Escape") {
        field.value = "";
        this.search();
      }
    });
  }

  /** search marks what is looked for. */
  search() {
    for (const mark of this.article.querySelectorAll("mark")) {
      const parent = mark.parentNode;
      mark.replaceWith(mark.textContent);
      parent.normalize();
    }
    this.hits = [];
    this.at = -1;
    const words = byID("find").value.trim().toLowerCase();
    if (words.length < 2) {
      setText(byID("find-count"), "");
      return;
    }
    const walker = document.createTreeWalker(this.article, NodeFilter.SHOW_TEXT);
    const found = [];
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
      for (let at = node.data.toLowerCase().lastIndexOf(words); at >= 0;
        at = at > 0 ? node.data.toLowerCase().lastIndexOf(words, at - 1) : -1) found.push([node, at]);
    }
    for (const [node, at] of found) { // of one text the last one first
      const range = document.createRange();
      range.setStart(node, at);
      range.setEnd(node, at + words.length);
      const mark = h("mark", {});
      range.surroundContents(mark);
    }
    this.hits = [...this.article.querySelectorAll("mark")];
    this.hit(1);
  }

  hit(by) {
    this.hits[this.at]?.classList.remove("here");
    if (this.hits.length === 0) {
      setText(byID("find-count"), words("book.found.none"));
      return;
    }
    this.at = (this.at + by + this.hits.length) % this.hits.length;
    const mark = this.hits[this.at];
    mark.classList.add("here");
    const details = mark.closest("details");
    if (details) details.open = true;
    mark.scrollIntoView({ block: "center" });
    setText(byID("find-count"), words("book.found", { number: this.at + 1, all: this.hits.length }));
  }
}

/** decoded is what a fragment names; "" if it is none, such as "%". */
function decoded(fragment) {
  try {
    return decodeURIComponent(fragment);
  } catch {
    return "";
  }
}

/** markSentences puts a sentence that names a line into an element of its own, so
 * that hovering any word of it lights the line. */
function markSentences(root) {
  for (const block of root.querySelectorAll("p, li, td")) {
    if (!block.querySelector(":scope > a.line")) continue;
    let run = [];
    const flush = () => {
      if (run.some((n) => n.matches?.("a.line"))) {
        const span = h("span", { class: "sentence" });
        run[0].before(span);
        span.append(...run);
      }
      run = [];
    };
    for (const node of [...block.childNodes]) {
      if (node.nodeType === Node.ELEMENT_NODE && /^(UL|OL|PRE|DIV|P|FIGURE|TABLE)$/.test(node.tagName)) {
        flush();
        continue;
      }
      if (node.nodeType !== Node.TEXT_NODE) {
        run.push(node);
        continue;
      }
      let rest = node;
      for (let end = rest.data.search(/[.;:!?]\s/); end >= 0; end = rest.data.search(/[.;:!?]\s/)) {
        const tail = rest.splitText(end + 1);
        run.push(rest);
        flush();
        rest = tail;
      }
      run.push(rest);
    }
    flush();
  }
}
