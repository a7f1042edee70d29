// Recordings: kept, opened, and played back without a server.

import { byID, duration, h, icon, setAttribute, setText } from "./dom.js";

/** save hands the reader a recording as a file. */
export function save(recording, name) {
  const url = URL.createObjectURL(new Blob([JSON.stringify(recording)], { type: "application/json" }));
  const link = h("a", { href: url, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 60000);
}

/** A Player feeds the events of a recording into a model, by the recording's clock. */
export class Player {
  constructor(model, recording, title, onClose) {
    this.model = model;
    this.log = [...recording.log].sort((a, b) => a.seq - b.seq);
    this.title = title;
    this.next = 0; // the first event that has not been played
    // The servers start before anything happens: play from there.
    this.from = this.log.find((e) => e.type === "act")?.at ?? this.log[0]?.at ?? 0;
    this.from = Math.max(this.log[0]?.at ?? 0, this.from - 0.5e9);
    this.to = this.log.reduce((last, e) => Math.max(last, e.at), this.from) + 0.5e9;
    this.speed = 1;
    this.playing = false;
    this.build(onClose);
    this.seek(this.from);
  }

  build(onClose) {
    this.button = h("button", { type: "button", id: "player-play", onclick: () => (this.playing ? this.pause() : this.play()) });
    this.slider = h("input", {
      type: "range", min: "0", max: "1000", value: "0", "aria-label": "Where in the recording",
      oninput: () => { this.pause(); this.seek(this.from + (Number(this.slider.value) / 1000) * (this.to - this.from)); },
    });
    this.clock = h("output", { class: "player-clock" });
    this.rate = h("select", { "aria-label": "Speed", onchange: () => this.setSpeed(Number(this.rate.value)) },
      ...["0.1", "0.25", "0.5", "1", "2", "4"].map((v) => h("option", { value: v, selected: v === "1" }, `× ${v}`)));
    const root = byID("player");
    root.hidden = false;
    root.replaceChildren(
      h("h2", {}, h("span", { class: "quiet-text" }, "Recording "), this.title),
      h("div", { class: "transport" }, this.button,
        h("button", { type: "button", id: "player-step", onclick: () => this.step() }, icon("step"), h("span", {}, "Step")),
        h("button", { type: "button", onclick: () => { this.pause(); this.seek(this.from); } }, "From the start"),
        this.rate),
      h("div", { class: "scrub" }, this.slider, this.clock),
      onClose ? h("button", { type: "button", id: "player-close", onclick: onClose }, "Back to live servers") : "");
    this.drawBar();
  }

  now() {
    if (!this.playing) return this.at;
    return Math.min(this.to, this.startedAt + (performance.now() - this.started) * 1e6 * this.speed);
  }

  play() {
    if (this.at >= this.to) this.seek(this.from);
    this.playing = true;
    this.started = performance.now();
    this.startedAt = this.at;
    this.drawBar();
  }

  pause() {
    this.at = this.now();
    this.playing = false;
    this.drawBar();
  }

  setSpeed(speed) {
    const playing = this.playing;
    if (playing) this.pause();
    this.speed = speed;
    if (playing) this.play();
  }

  /** step plays one act and what comes of it, up to the next act. */
  step() {
    this.pause();
    const acts = this.log.filter((e) => e.type === "act");
    const after = acts.filter((e) => e.at > this.at);
    this.seek(after[1] ? after[1].at - 1 : after[0] ? this.to : this.to);
  }

  seek(t) {
    if (this.next > 0 && t < this.log[this.next - 1].at) {
      this.model.reset();
      this.next = 0;
    }
    this.at = t;
    this.feed();
    this.drawBar();
  }

  /** feed plays what is due. */
  feed() {
    const now = this.now();
    const from = this.next;
    while (this.next < this.log.length && this.log[this.next].at <= now) this.next++;
    if (this.next > from) this.model.apply(this.log.slice(from, this.next));
    if (this.playing && now >= this.to) this.pause();
    return this.next > from;
  }

  drawBar() {
    const key = String(this.playing);
    if (this.key !== key) {
      this.key = key;
      this.button.replaceChildren(icon(this.playing ? "pause" : "running"), h("span", {}, this.playing ? "Pause" : "Play"));
    }
    const now = this.now();
    const words = `${duration(now - this.from)} of ${duration(this.to - this.from)}`;
    setText(this.clock, words);
    setAttribute(this.slider, "aria-valuetext", words);
    this.slider.value = String(Math.round(((now - this.from) / (this.to - this.from)) * 1000));
  }

  close() {
    this.playing = false;
    byID("player").hidden = true;
    byID("player").replaceChildren();
  }
}
