// The columns: one server each, its source with the line where it stands.

import { source } from "./api.js";
import { byID, chip, h, icon, reducedMotion, say, setAttribute, setText } from "./dom.js";
import { drawKernel } from "./kernel.js";
import { said, words } from "./language.js";
import { badges, stuck } from "./state.js";

const FRESH = 900e6; // ns: so long a line that has run keeps a mark
const BADGES = 2; // shown
const KERNEL_EVERY = 200; // ms: no reader can read numbers that change faster

/** A Column shows one server; or, without one, a file to read. */
class Column {
  constructor(columns, server, lesson) {
    this.columns = columns;
    this.server = server;
    this.lesson = lesson;
    this.file = "";
    this.rows = [];
    this.shownFiles = new Map(); // file -> its rows, once they are made
    this.currentRow = null;
    this.marked = []; // rows with a mark in the gutter
    this.fresh = new Set();
    this.seen = 0; // calls that have been looked at
    this.followed = 0;
    this.pinned = 0; // the reader looks elsewhere until then (performance.now)
    this.pointed = [];
    this.asked = 0; // how often lines were to be pointed out
    this.kernelVersion = -1;
    this.kernelDrawn = -Infinity;
    this.build();
  }

  build() {
    this.label = (this.server?.lesson ?? this.lesson.name).replace(/^exercise\//, "");
    const id = this.server?.id ?? `read-${this.lesson.name}`;
    const remove = h("button", {
      type: "button", class: "quiet", "aria-label": words("column.remove", { name: this.name() }), title: words("column.remove.title"),
      onclick: () => this.columns.remove(this),
    }, "✕");
    this.badges = h("ul", { class: "badges", "aria-label": words("column.does", { name: this.name() }) });
    this.tabs = h("div", { class: "files", role: "group", "aria-label": words("column.file") });
    this.pane = h("div", {
      class: "source code", tabindex: "0", role: "region", "aria-label": words("column.source", { name: this.name() }),
      onwheel: () => this.pin(), onpointerdown: () => this.pin(), onkeydown: () => this.pin(),
    });
    this.lines = h("div", { class: "lines" });
    this.pane.append(this.lines);
    this.measure();
    this.note = h("p", { class: "stuck", hidden: true });
    this.kernel = h("div", { class: "kernel", tabindex: "0", role: "region", "aria-label": words("column.kernel", { name: this.name() }) });
    this.curl = h("div", { class: "curl" });
    this.element = h("section", {
      class: "column", "data-server": id, "data-lesson": this.server?.lesson ?? this.lesson.name,
      "aria-labelledby": `title-${id}`,
    },
    h("header", {},
      h("div", { class: "column-title" },
        h("h3", { id: `title-${id}` }, this.name()),
        this.columns.readOnly ? null : remove),
      h("p", { class: "what" }, this.columns.titleOf(this.server ?? this.lesson)),
      this.badges),
    this.tabs, this.pane, this.note, this.kernel, this.curl);
  }

  /** measure keeps what is needed to scroll, so that drawing never has to ask the
   * page, which would then be laid out at once. */
  measure() {
    this.top = 0;
    this.height = 0;
    this.rowHeight = 0;
    this.tops = []; // of the rows, px: a long line takes more than one
    const rows = () => {
      this.rowHeight = this.rows.length ? this.lines.clientHeight / this.rows.length : 0;
      this.tops = this.rows.map((row) => row.offsetTop);
    };
    this.pane.addEventListener("scroll", () => { this.top = this.pane.scrollTop; }, { passive: true });
    new ResizeObserver(() => {
      this.height = this.pane.clientHeight;
      rows();
    }).observe(this.pane);
    new ResizeObserver(() => {
      rows();
      if (this.pointed[0]) this.scroll(this.placeOf(this.pointed[0], false));
      this.columns.changed();
    }).observe(this.lines);
  }

  name() {
    return this.label;
  }

  /** rename tells columns of one server apart. */
  rename(label) {
    if (label === this.label) return;
    this.label = label;
    setText(this.element.querySelector("h3"), label);
    this.pane.setAttribute("aria-label", words("column.source-file", { name: label, file: this.file }));
    this.kernel.setAttribute("aria-label", words("column.kernel", { name: label }));
    this.badges.setAttribute("aria-label", words("column.does", { name: label }));
    this.element.querySelector(".column-title button")?.setAttribute("aria-label", words("column.remove", { name: label }));
  }

  pin() {
    this.pinned = performance.now() + 4000;
  }

  files() {
    return this.server?.files ?? this.lesson.files;
  }

  /** show shows a file; what it returns is done when the lines are there. */
  show(file) {
    if (this.file !== file) this.showing = this.change(file);
    return this.showing;
  }

  async change(file) {
    this.file = file;
    this.light(null);
    this.mark([], null);
    for (const row of this.fresh) row.classList.remove("fresh");
    this.fresh.clear();
    this.clearPointed();
    this.rows = [];
    this.tabs.replaceChildren(...this.files().map((f) => h("button", {
      type: "button", "aria-pressed": String(f === file), title: f,
      onclick: () => { this.pin(); this.pinned += 6000; this.show(f); },
    }, f.split("/").pop())));
    const rows = this.shownFiles.get(file) ?? await this.makeRows(file);
    if (this.file !== file) return; // another one was asked for meanwhile
    this.lines.replaceChildren(...rows);
    this.rows = rows;
    this.pane.setAttribute("aria-label", words("column.source-file", { name: this.name(), file }));
    this.columns.changed();
  }

  async makeRows(file) {
    const lines = await this.columns.sourceOf(file);
    const rows = lines.map((tokens, i) => h("div", { class: "src", "data-line": i + 1 },
      h("span", { class: "gutter" }), h("span", { class: "number" }, String(i + 1)),
      h("code", {}, ...(tokens.length ? tokens : [["", " "]]).map(([kind, text]) =>
        (kind ? h("span", { class: kind }, text) : text)))));
    this.shownFiles.set(file, rows);
    return rows;
  }

  row(line) {
    return this.rows[line - 1];
  }

  /** draw shows where the server stands. */
  draw(now, model) {
    const server = this.server;
    if (!server) {
      if (!this.file && this.files()[0]) this.show(this.files()[0]);
      return;
    }
    setAttribute(this.element, "data-state", server.state);
    this.rename(model.labelOf(server));
    const list = badges(server, now, model);
    this.drawBadges(list, model);
    const standing = list.find((b) => b.call)?.call;
    const standsAt = this.standsAt(list, server);
    const wanted = this.pinned > performance.now() && this.file
      ? this.file : standing?.file && this.files().includes(standing.file) ? standsAt.file
        : !model.still && this.file || this.fileOf(standsAt) || this.files()[0];
    if (wanted && wanted !== this.file) this.show(wanted);
    this.light(standsAt);
    this.mark([...server.open.values()], model);
    this.freshen(server, now, model.still);
    this.standing = Boolean(standing) || model.still;
    this.still = model.still;
    const note = stuck(server) || said(server.note);
    setText(this.note, note);
    this.note.classList.toggle("calm", !stuck(server));
    this.note.hidden = !note;
    const late = model.still || performance.now() - this.kernelDrawn > KERNEL_EVERY;
    if (server.version !== this.kernelVersion && late) {
      this.kernelVersion = server.version;
      this.kernelDrawn = performance.now();
      drawKernel(this.kernel, server, model);
      this.drawCurl();
    }
  }

  /** standsAt is the call whose line is lit: of several threads the one that
   * serves a client, for it is what the others wait for. */
  standsAt(list, server) {
    const calls = list.filter((b) => b.call).map((b) => b.call);
    const serving = calls.filter((c) => c.name !== "accept4");
    return serving[0] ?? calls[0] ?? [...server.open.values()].at(-1) ?? server.last;
  }

  drawBadges(list, model) {
    const shown = list.slice(0, BADGES);
    if (list.length > BADGES) shown.push({ state: "more", text: `+ ${list.length - BADGES}` });
    while (this.badges.children.length > shown.length) this.badges.lastChild.remove();
    shown.forEach((badge, i) => {
      let item = this.badges.children[i];
      if (!item || item.dataset.state !== badge.state || item.dataset.client !== (badge.client ?? "")) {
        const made = h("li", { class: "badge", "data-state": badge.state, "data-client": badge.client ?? "" },
          badge.state === "more" ? null : icon(badge.state), h("span", { class: "badge-text" }),
          badge.client ? chip(badge.client, model.hueOf(badge.client)) : null);
        if (item) item.replaceWith(made);
        else this.badges.append(made);
        item = made;
      }
      setText(item.querySelector(".badge-text"), badge.text);
    });
    const all = list.length > BADGES ? list.map((b) => b.short ?? b.text).join(words("semicolon")) : null;
    setAttribute(this.badges, "title", all);
  }

  light(call) {
    const row = call && call.file === this.file ? this.row(call.line) : null;
    if (row === this.currentRow) return;
    this.currentRow?.classList.remove("current");
    this.currentRow?.removeAttribute("aria-current");
    row?.classList.add("current");
    row?.setAttribute("aria-current", "step");
    this.currentRow = row;
  }

  /** mark puts the name of a client, or a dot, beside each line that a thread is on. */
  mark(calls, model) {
    const at = new Map();
    for (const call of calls) {
      if (call.file !== this.file) continue;
      if (!at.has(call.line)) at.set(call.line, []);
      at.get(call.line).push(model.nameOf(call.peer) || "•");
    }
    for (const row of this.marked) {
      if (!at.has(Number(row.dataset.line))) {
        setText(row.firstChild, "");
        row.classList.remove("standing");
      }
    }
    this.marked = [];
    for (const [line, names] of at) {
      const row = this.row(line);
      if (!row) continue;
      row.classList.add("standing");
      setText(row.firstChild, names.length > 2 ? `×${names.length}` : names.join(""));
      this.marked.push(row);
    }
  }

  fileOf(call) {
    return call?.file && this.files().includes(call.file) ? call.file : "";
  }

  /** become lets the column show another model's view of the same server. */
  become(server) {
    this.server = server;
    this.seen = 0;
    this.kernelVersion = -1;
  }

  /** freshen leaves a mark on the lines that have run a moment ago: the path. */
  freshen(server, now, still) {
    const calls = server.calls;
    const from = Math.max(still ? 0 : this.seen, calls.pushed - Math.min(calls.length, 12));
    if (still) for (const row of this.fresh) row.freshUntil = 0;
    this.seen = calls.pushed;
    for (let n = from; n < calls.pushed; n++) {
      const call = calls.at(n - (calls.pushed - calls.length));
      const row = call.file === this.file ? this.row(call.line) : null;
      if (!row || now - call.end > FRESH) continue;
      row.classList.add("fresh");
      row.freshUntil = call.end + FRESH;
      this.fresh.add(row);
    }
    for (const row of this.fresh) {
      if (now < row.freshUntil && row.freshUntil - now <= FRESH) continue;
      row.classList.remove("fresh");
      this.fresh.delete(row);
    }
  }

  /** whereTo is where the pane should scroll, null for nowhere: not while the
   * reader looks elsewhere, and not to every line that is over at once. */
  whereTo() {
    if (!this.currentRow || !this.rowHeight || this.pinned > performance.now()) return null;
    if (this.still) {
      if (this.followedRow === this.currentRow) return null;
      this.followedRow = this.currentRow;
      return this.placeOf(this.currentRow, true);
    }
    // The same line again now and then: what came in between may have moved it.
    const since = performance.now() - this.followed;
    if (this.standing ? since < 700 && this.followedRow === this.currentRow : since < 2500) return null;
    this.followed = performance.now();
    const again = this.followedRow === this.currentRow;
    this.followedRow = this.currentRow;
    return this.placeOf(this.currentRow, again);
  }

  /** placeOf is where to scroll so that a row is seen; null where it is already. */
  placeOf(row, again) {
    if (!this.rowHeight || !this.height) return null; // not laid out yet
    const top = this.tops[Number(row.dataset.line) - 1] ?? 0;
    const margin = again ? 4 : this.height / 4;
    if (top > this.top + margin && top < this.top + this.height - margin - this.rowHeight) return null;
    return Math.max(0, top - this.height / 2.5);
  }

  scroll(top) {
    if (top === null) return;
    this.pane.scrollTo({ top, behavior: this.standing && !reducedMotion() ? "smooth" : "auto" });
  }

  /** point lights lines that the text or the timeline names. */
  async point(file, from, to) {
    this.pin();
    const asked = ++this.asked;
    await this.show(file);
    if (asked !== this.asked) return; // the pointer has gone on
    this.clearPointed();
    for (let line = from; line <= to && this.row(line); line++) {
      this.row(line).classList.add("pointed");
      this.pointed.push(this.row(line));
    }
    if (this.pointed[0]) this.scroll(this.placeOf(this.pointed[0], false));
  }

  unpoint() {
    this.asked++;
    this.clearPointed();
  }

  clearPointed() {
    for (const row of this.pointed.splice(0)) row.classList.remove("pointed");
  }

  drawCurl() {
    const server = this.server;
    const key = `${server.state} ${server.addr} ${server.frozen} ${server.rationed}`;
    if (this.curlKey === key) return;
    this.curlKey = key;
    this.curl.replaceChildren();
    if (this.columns.readOnly) return;
    if (server.state === "starting") return;
    if (server.state !== "listening") {
      this.curl.append(h("button", { type: "button", onclick: () => this.columns.orders.again(server.id) }, words("column.again")));
      return;
    }
    const command = `curl http://${server.addr}/`;
    this.curl.append(h("code", {}, command), h("button", {
      type: "button", class: "quiet", "aria-label": words("column.copy.label", { command }),
      onclick: async () => {
        try {
          await navigator.clipboard.writeText(command);
          say(words("column.copied"));
        } catch {
          say(words("column.not-copied")); // the text is there to select
        }
      },
    }, words("column.copy")), this.holds());
  }

  /** holds is what a reader can do to the server itself. */
  holds() {
    const { frozen, rationed, id, untraced, parked } = this.server;
    const button = (how, on) => h("button", { type: "button", "data-hold": how, title: words(`hold.${how}.title`),
      onclick: () => this.columns.orders.hold(how, id, !on) }, words(on ? `hold.${how}.end` : `hold.${how}`));
    return h("div", { class: "holds" },
      ...(parked && untraced ? [] : [button("freeze", frozen), button("ration", rationed)]));
  }

  /** again builds the column once more, in another language. */
  again() {
    const { element, file } = this;
    this.build();
    element.replaceWith(this.element);
    this.kernelVersion = -1;
    this.curlKey = null;
    this.file = "";
    if (file) this.show(file);
  }
}

/** Columns is all of them. */
export class Columns {
  /** orders: {remove(server id), again(server id)}; changed: something is to be drawn. */
  constructor(orders, changed) {
    this.orders = orders;
    this.changed = changed;
    this.root = byID("columns");
    this.list = [];
    this.readOnly = false;
    this.lessons = [];
    this.revealing = false; // the next column is one that the reader has asked for
    this.recorded = null; // the sources of a recording, file -> text
  }

  /** titleOf is what a server is, in a few words. That of an exercise is its page's title. */
  titleOf({ lesson, name, title }) {
    return this.pageTitle?.((lesson ?? name).replace(/^exercise\//, "exercises/")) || said(title ?? "");
  }

  async sourceOf(file) {
    const recorded = this.recorded?.[file];
    let lines = null;
    try {
      lines = await source(file);
    } catch (error) {
      if (recorded === undefined) return [[["", `// ${error.message}`]]];
    }
    if (recorded === undefined) return lines;
    // A recording may be of other source than this program's.
    const texts = String(recorded).replace(/\n$/, "").split("\n");
    if (lines && lines.length === texts.length && lines.every((l, i) => plain(l) === texts[i])) return lines;
    return texts.map((text) => [["", text]]);
  }

  again() {
    for (const column of this.list) column.again();
  }

  clear() {
    for (const column of this.list) column.element.remove();
    this.list = [];
    this.update();
  }

  draw(now, model) {
    for (const server of model.servers.values()) {
      if (this.list.some((c) => c.server === server)) continue;
      const same = this.list.find((c) => c.server?.id === server.id && c.server.lesson === server.lesson);
      if (same) same.become(server);
      else this.append(new Column(this, server, null));
    }
    for (const column of [...this.list]) {
      if (column.server && model.servers.get(column.server.id) !== column.server) this.drop(column);
      else column.draw(now, model);
    }
    for (const column of this.list) column.scroll(column.whereTo());
  }

  append(column) {
    this.list.push(column);
    this.root.append(column.element);
    if (this.revealing) column.element.scrollIntoView({ block: "nearest" });
    this.revealing = false;
    this.update();
  }

  drop(column) {
    column.element.remove();
    this.list = this.list.filter((c) => c !== column);
    this.update();
  }

  update() {
    this.root.dataset.count = this.list.length;
    this.onCount?.();
  }

  remove(column) {
    if (column.leaving) return; // a second click, before the server has gone
    column.leaving = true;
    if (column.server) this.orders.remove(column.server.id);
    else this.drop(column);
  }

  /** point lights lines in every column that has the file. When none has it, a
   * column opens, if asked to, to read it in. */
  async point(file, from, to, open) {
    let columns = this.list.filter((c) => c.files().includes(file));
    if (columns.length === 0 && open) {
      const lesson = this.lessons.find((l) => l.files.includes(file)) ??
        { name: file.replace(/\/main\.go$/, ""), title: words("column.to-read"), files: [file] };
      const column = new Column(this, null, lesson);
      this.append(column);
      columns = [column];
    }
    this.unpoint();
    await Promise.all(columns.map((c) => c.point(file, from, to)));
    if (open && columns[0]) {
      columns[0].element.scrollIntoView({ block: "nearest", inline: "nearest" });
      say(words("column.highlighted", { file, line: from, columns: columns.map((c) => c.name()) }));
    }
    return columns.length > 0;
  }

  unpoint() {
    for (const column of this.list) column.unpoint();
  }
}

const plain = (tokens) => tokens.map(([, text]) => text).join("");
