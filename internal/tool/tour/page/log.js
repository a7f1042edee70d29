// The log: what the timeline shows, in words.

import { byID, h, setText } from "./dom.js";
import { said, words } from "./language.js";
import { actText, because, callText } from "./state.js";

const SHOWN = 120;
const BUSY = 40; // lines, when there is more than a reader can read
const EVERY = 150; // ms

/** Log is a list of lines. onChoose is called with the call that a reader chooses. */
export class Log {
  constructor(model, onChoose) {
    this.model = model;
    this.onChoose = onChoose;
    this.root = byID("log");
    this.filter = byID("log-filter");
    this.generation = model.generation;
    this.had = new Map(); // server id -> calls that are behind us
    this.hadNotes = 0;
    this.drawn = 0;
    this.count = 0;
    this.standing = [];
    this.atEnd = true;
    this.root.addEventListener("scroll", () => {
      if (this.ours) { // to ask would have the page laid out
        this.ours = false;
        return;
      }
      this.atEnd = this.root.scrollTop + this.root.clientHeight >= this.root.scrollHeight - 30;
    }, { passive: true });
    this.filter.addEventListener("change", () => this.again());
    this.root.addEventListener("click", (event) => this.choose(event.target.closest("li")));
    this.root.addEventListener("keydown", (event) => this.key(event));
    this.again();
  }

  /** again writes everything once more, as far as it is kept. */
  again() {
    this.had.clear();
    this.hadNotes = 0;
    this.root.replaceChildren();
    this.standing = [];
    this.chosen = null;
    this.drawn = 0;
    this.count = 0;
  }

  draw(now) {
    const model = this.model;
    if (performance.now() - this.drawn < EVERY && !model.still) return;
    this.drawn = performance.now();
    if (this.generation !== model.generation) {
      this.generation = model.generation;
      this.again();
    }
    this.drawFilter();
    if (model.still) {
      if (this.stillAt === `${model.version} ${this.filter.value}`) return;
      this.stillAt = `${model.version} ${this.filter.value}`;
      this.again();
    } else this.stillAt = null;
    const fresh = this.fresh();
    if (fresh.length > 0 || this.standingKey(now) !== this.lastStanding) {
      for (const li of this.standing) li.remove();
      if (this.flood) this.root.replaceChildren();
      this.root.append(...fresh.map((entry) => this.line(entry)));
      if (this.flood) this.drawn += 600; // no reader reads so fast
      while (this.root.children.length > SHOWN) this.root.firstChild.remove();
      this.drawStanding(now);
      if (this.atEnd) {
        this.ours = true;
        this.root.scrollTop = 1e6; // the end
      }
    }
  }

  fresh() {
    const model = this.model;
    let entries = [];
    for (const server of model.servers.values()) {
      const calls = server.calls;
      const from = Math.max(this.had.get(server.id) ?? 0, calls.pushed - SHOWN, calls.pushed - calls.length);
      this.had.set(server.id, calls.pushed);
      if (this.filter.value && this.filter.value !== server.id) continue;
      for (let n = from; n < calls.pushed; n++) {
        const call = calls.at(n - (calls.pushed - calls.length));
        entries.push({ at: call.end, call, server });
      }
    }
    const notes = model.notes;
    for (let n = Math.max(this.hadNotes, notes.pushed - SHOWN); n < notes.pushed; n++) {
      const note = notes.at(n - (notes.pushed - notes.length));
      if (!note.server || !this.filter.value || note.server === this.filter.value) entries.push({ at: note.at, note });
    }
    this.hadNotes = notes.pushed;
    entries.sort((a, b) => a.at - b.at);
    this.flood = entries.length > SHOWN;
    if (entries.length > SHOWN) entries = entries.slice(-BUSY);
    return entries;
  }

  /** line is one line of text with as few elements as can be: there are many. */
  line({ at, call, server, note }) {
    const id = `log-${this.count++}`;
    const time = `${this.seconds(at).padStart(11)}  `;
    if (note) {
      const of = () => this.model.labelOf(this.model.servers.get(note.server));
      const text = note.act ? actText(note) : note.held ? words(`held.${note.held}`, { server: note.label })
        : words("log.missed", { n: note.missed, server: of() });
      return h("li", { id, class: note.missed ? "log-missed" : "log-act" }, time + text);
    }
    const li = h("li", { id }, time, ...this.words(server, call, 0));
    li.call = call;
    li.server = server;
    return li;
  }

  words(server, call, now) {
    const client = this.model.nameOf(call.peer);
    const name = this.model.labelOf(server).slice(0, 13).padEnd(14);
    return [
      name,
      client ? h("b", { class: `hue-text hue-${this.model.hueOf(client)}` }, client.padEnd(5)) : "·    ",
      callText(call, now),
      because(call) ? h("i", {}, ` ${because(call)}`) : "",
      call.file ? `  ${call.file}:${call.line}` : "",
    ];
  }

  seconds(at) {
    return ((at - this.model.first) / 1e9).toFixed(6);
  }

  open(now) {
    const list = [];
    for (const server of this.model.servers.values()) {
      if (this.filter.value && this.filter.value !== server.id) continue;
      for (const call of server.open.values()) {
        if (now - call.start > 300e6 && list.length < 12) list.push([server, call]);
      }
    }
    return list;
  }

  /** standingKey changes when other calls stand open, and once a second. */
  standingKey(now) {
    const list = this.open(now);
    return list.length ? list.map(([s, c]) => `${s.id}.${c.call}`).join() + Math.floor(now / 1e9) : "";
  }

  drawStanding(now) {
    this.lastStanding = this.standingKey(now);
    this.standing = this.open(now).map(([server, call], i) => {
      const li = h("li", { id: `log-now-${i}`, class: "log-now" }, words("log.now").padStart(11), "  ",
        ...this.words(server, call, Math.floor(now / 1e8) * 1e8));
      li.call = call;
      li.server = server;
      return li;
    });
    this.root.append(...this.standing);
    if (this.root.children.length === 0) {
      this.standing = [h("li", { class: "log-empty" }, words("log.empty"))];
      this.root.append(...this.standing);
    }
  }

  drawFilter() {
    const servers = [...this.model.servers.values()];
    const key = servers.map((s) => this.model.labelOf(s)).join() + words("log.all");
    if (key === this.filterKey) return;
    this.filterKey = key;
    const value = this.filter.value;
    this.filter.replaceChildren(h("option", { value: "" }, words("log.all")),
      ...servers.map((s) => h("option", { value: s.id }, this.model.labelOf(s))));
    this.filter.value = servers.some((s) => s.id === value) ? value : "";
  }

  key(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const lines = [...this.root.children].filter((li) => li.call);
    const at = this.chosen?.isConnected ? lines.indexOf(this.chosen) : step > 0 ? -1 : lines.length;
    this.choose(lines[Math.min(Math.max(at + step, 0), lines.length - 1)]);
  }

  choose(li) {
    if (!li?.call) return;
    this.chosen?.classList.remove("chosen");
    this.chosen = li;
    li.classList.add("chosen");
    li.scrollIntoView({ block: "nearest" });
    this.onChoose(li.server, li.call);
  }

  /** show marks the line of a call, if it is there. */
  show(call) {
    const li = [...this.root.children].find((c) => c.call === call);
    if (!li) return;
    this.chosen?.classList.remove("chosen");
    this.chosen = li;
    li.classList.add("chosen");
    li.scrollIntoView({ block: "nearest" });
  }

  empty() {
    setText(this.root, "");
  }
}
