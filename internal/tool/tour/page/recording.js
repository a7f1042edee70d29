// Recordings: kept, opened, and played back, in both directions, without a server.

import { byID, duration, h, icon, setAttribute, setText } from "./dom.js";
import { words } from "./language.js";
import { describe, linked, linkTo, stepsOf } from "./moments.js";

/** save hands the reader a recording as a file. */
export function save(recording, name) {
  const url = URL.createObjectURL(new Blob([JSON.stringify(recording)], { type: "application/json" }));
  const link = h("a", { href: url, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 60000);
}

/** A Player shows the events of a recording in a model: by the recording's clock while it
 * plays, and else exactly the first so many. */
export class Player {
  /** options: title(); session, the name by which a link finds the recording; onClose, null
   * where nothing is behind it; changed, called when something is to be drawn. */
  constructor(model, recording, options) {
    this.model = model;
    this.log = [...recording.log].sort((a, b) => a.seq - b.seq);
    this.steps = stepsOf(this.log);
    this.options = options;
    this.next = 0; // the first event that has not been played
    // The servers start before anything happens: play from there.
    const act = this.log.findIndex((e) => e.type === "act");
    this.first = Math.max(0, this.steps.findLastIndex((n) => n <= act));
    this.to = this.log.reduce((last, e) => Math.max(last, e.at), 0) + 0.5e9;
    this.speed = 1;
    this.playing = false;
    this.build();
    this.show(this.first);
    this.moved = true;
    this.keys = (event) => this.key(event);
    document.addEventListener("keydown", this.keys, true);
  }

  build() {
    const button = (id, key, run) => h("button", {
      type: "button", id: `player-${id}`, title: words(`player.${key}.title`), onclick: run,
    }, words(`player.${key}`));
    this.button = h("button", { type: "button", id: "player-play", onclick: () => (this.playing ? this.pause() : this.play()) });
    this.slider = h("input", {
      type: "range", min: "0", max: String(this.steps.length - 1), value: "0", id: "player-slider", "aria-label": words("player.step"),
      oninput: () => this.show(Number(this.slider.value)),
    });
    this.position = h("output", { class: "player-clock", for: "player-slider" });
    this.what = h("p", { class: "player-what", id: "player-what" });
    this.link = h("a", { id: "player-link", title: words("player.link.title") }, words("player.link"));
    this.rate = h("select", { "aria-label": words("race.speed"), onchange: () => this.setSpeed(Number(this.rate.value)) },
      ...["0.1", "0.25", "0.5", "1", "2", "4"].map((v) => h("option", { value: v, selected: v === "1" }, `× ${v}`)));
    this.back = button("back", "back", () => this.show(this.at - 1));
    this.forward = button("next", "next", () => this.show(this.at + 1));
    const root = byID("player");
    root.hidden = false;
    root.replaceChildren(
      h("h2", {}, h("span", { class: "quiet-text" }, words("player")), " ", this.options.title()),
      h("div", { class: "transport" }, this.button, this.rate,
        button("first", "first", () => this.show(0)), this.back, this.forward,
        button("step", "act", () => this.nextAct()),
        button("last", "last", () => this.show(this.steps.length - 1))),
      h("div", { class: "scrub" }, this.slider, this.position),
      this.options.onClose ? h("button", { type: "button", id: "player-close", onclick: this.options.onClose }, words("player.close")) : "",
      h("div", { class: "player-moment" }, this.what, this.link));
  }

  /** again builds the bar once more, in another language. */
  again() {
    this.build();
    this.rate.value = String(this.speed);
    this.playKey = this.drawn = null;
    this.drawBar();
  }

  /** key takes the keys of the story of `lesson explore`, but where they mean something else. */
  key(event) {
    if (event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
    const to = { ArrowLeft: this.at - 1, ArrowRight: this.at + 1, Home: 0, End: this.steps.length - 1 }[event.key];
    if (to === undefined || event.target.closest("input, select, textarea, .book, .source, .kernel, .log, .timeline")) return;
    event.preventDefault();
    event.stopPropagation();
    this.show(to);
  }

  now() {
    if (this.playing) return Math.min(this.to, this.startedAt + (performance.now() - this.started) * 1e6 * this.speed);
    return this.next >= this.log.length ? this.to : this.model.time;
  }

  play() {
    if (this.next >= this.log.length) this.show(this.first);
    this.startedAt = this.now();
    this.playing = true;
    this.model.still = false;
    this.started = performance.now();
    this.drawBar();
  }

  /** pause stops at the step that is shown. */
  pause() {
    if (!this.playing) return;
    this.feed();
    this.playing = false;
    this.show(Math.max(0, this.steps.findLastIndex((n) => n <= this.next)));
  }

  setSpeed(speed) {
    const playing = this.playing;
    if (playing) this.pause();
    this.speed = speed;
    if (playing) this.play();
  }

  /** step is the number of the last event that is shown. */
  step() {
    return this.log[this.steps[this.at] - 1].seq;
  }

  /** nextAct shows one act and what comes of it, up to the next act. */
  nextAct() {
    const act = (from) => this.log.findIndex((e, i) => i >= from && e.type === "act");
    const here = act(this.next);
    const after = here < 0 ? -1 : act(here + 1);
    this.show(after < 0 ? this.steps.length - 1 : this.steps.findLastIndex((n) => n <= after));
  }

  /** show shows the moment after a step: always the same picture, wherever we come from. */
  show(step) {
    this.playing = false;
    this.at = Math.min(Math.max(step, 0), this.steps.length - 1);
    const next = this.steps[this.at];
    if (next < this.next) {
      this.model.reset();
      this.next = 0;
    }
    this.model.still = true;
    this.model.apply(this.log.slice(this.next, next));
    this.next = next;
    this.drawBar();
    this.options.changed();
  }

  /** showEvent shows the step of an event, by its number. */
  showEvent(seq) {
    const step = this.steps.findIndex((n) => this.log[n - 1].seq >= seq);
    this.show(step < 0 ? this.steps.length - 1 : step);
  }

  /** feed plays what is due. */
  feed() {
    if (!this.playing) return;
    const now = this.now();
    const from = this.next;
    while (this.next < this.log.length && this.log[this.next].at <= now) this.next++;
    if (this.next > from) this.model.apply(this.log.slice(from, this.next));
    this.at = Math.max(0, this.steps.findLastIndex((n) => n <= this.next));
    if (now >= this.to) this.show(this.steps.length - 1);
  }

  drawBar() {
    const key = String(this.playing);
    if (this.playKey !== key) {
      this.playKey = key;
      this.button.replaceChildren(icon(this.playing ? "pause" : "running"), h("span", {}, words(this.playing ? "race.pause" : "race.play")));
    }
    if (this.drawn === this.next) return;
    this.drawn = this.next;
    const event = this.log[this.steps[this.at] - 1];
    const last = this.log.at(-1);
    setText(this.position, words("player.position", {
      step: event.seq, last: last.seq, time: duration(this.model.time - this.model.first),
    }));
    const what = describe(event, this.model);
    setText(this.what, what);
    setAttribute(this.slider, "aria-valuetext", words("player.says", { step: event.seq, what }));
    this.slider.value = String(this.at);
    setAttribute(this.back, "aria-disabled", this.at === 0 ? "true" : null);
    setAttribute(this.forward, "aria-disabled", this.at === this.steps.length - 1 ? "true" : null);
    this.link.hidden = this.options.session === null;
    if (this.link.hidden) return;
    this.link.href = linkTo(this.options.session, event.seq);
    if (!this.moved || this.playing) return;
    clearTimeout(this.addressing); // a browser lets a page change its address only so often
    this.addressing = setTimeout(() => history.replaceState(null, "", this.link.href), 200);
  }

  close() {
    this.playing = false;
    document.removeEventListener("keydown", this.keys, true);
    byID("player").hidden = true;
    byID("player").replaceChildren();
    clearTimeout(this.addressing);
    if (linked(location.hash)) history.replaceState(null, "", location.pathname + location.search);
  }
}
