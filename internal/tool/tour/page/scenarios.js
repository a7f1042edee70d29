// The scenarios: races that play themselves, at a chosen speed or act by act.

import { byID, h, icon, setAttribute, setText } from "./dom.js";
import { said, words } from "./language.js";

/** Scenarios is the panel. orders: play(name, speed), step(), pause(on), stop(). */
export class Scenarios {
  constructor(list, orders, live) {
    this.list = list;
    this.orders = orders;
    this.live = live;
    this.build();
  }

  build() {
    this.select = h("select", { id: "scenario", onchange: () => this.chosen() },
      ...this.list.map((s) => h("option", { value: s.name }, said(s.title || s.name))));
    this.question = h("p", {});
    this.progress = h("p", { class: "progress" });
    this.play = h("button", { type: "button", id: "scenario-play", onclick: () => this.toggle() }, icon("running"), h("span", {}, words("race.play")));
    this.step = h("button", { type: "button", id: "scenario-step", title: words("race.step.title"), onclick: () => this.stepOn() },
      icon("step"), h("span", {}, words("race.step")));
    this.stop = h("button", { type: "button", id: "scenario-stop", hidden: true, onclick: () => this.orders.stop() }, words("race.stop"));
    this.speed = h("select", { id: "scenario-speed" },
      ...[["0.1", "× 0.1"], ["0.25", "× 0.25"], ["0.5", "× 0.5"], ["1", "× 1"], ["2", "× 2"], ["4", "× 4"]]
        .map(([value, text]) => h("option", { value, selected: value === "1" }, text)));
    this.acts = h("ol", { class: "script" });
    byID("scenarios").replaceChildren(
      h("h2", { id: "scenarios-title", title: words("races.title") }, words("races")),
      h("div", { class: "choose" }, h("label", { class: "visually-hidden", for: "scenario" }, words("race")), this.select),
      h("div", { class: "transport" }, this.play,
        ...(this.live ? [this.step, this.stop,
          h("label", { class: "visually-hidden", for: "scenario-speed" }, words("race.speed")), this.speed] : [])),
      h("div", { class: "question" }, this.question, this.progress),
      h("details", { class: "script-box" }, h("summary", {}, words("race.script")), this.acts));
    this.chosen();
  }

  /** again builds the panel once more, in another language. */
  again() {
    const { select: { value }, speed } = this;
    this.build();
    this.select.value = value;
    this.speed.value = speed.value;
    this.key = null;
    this.chosen();
  }

  chosen() {
    const scenario = this.list.find((s) => s.name === this.select.value);
    setText(this.question, said(scenario?.question ?? ""));
    this.acts.replaceChildren(...(scenario?.script ?? []).map((act) => h("li", {}, said(act))));
    this.shown = scenario;
  }

  toggle() {
    const at = this.running;
    if (at && at.state === "playing") this.orders.pause(true);
    else if (at && at.state === "paused" && at.name === this.select.value) this.orders.pause(false);
    else this.orders.play(this.select.value, Number(this.speed.value));
  }

  async stepOn() {
    const at = this.running;
    if (!at || at.state === "done" || at.name !== this.select.value) {
      await this.orders.play(this.select.value, Number(this.speed.value), true);
      return;
    }
    if (at.state === "playing") await this.orders.pause(true);
    await this.orders.step();
  }

  /** draw shows how far a scenario has come; recorded says that it is a recording,
   * which the player pauses. */
  draw(model, recorded) {
    const at = model.scenario;
    this.running = at && at.state !== "done" && !recorded ? at : null;
    const playing = this.running?.state === "playing";
    const paused = this.running?.state === "paused";
    const key = `${at?.name} ${at?.state} ${at?.next} ${this.shown?.name}`;
    if (key === this.key) return;
    this.key = key;
    this.play.replaceChildren(icon(playing ? "pause" : "running"),
      h("span", {}, words(playing ? "race.pause" : paused ? "race.continue" : "race.play")));
    this.stop.hidden = !playing && !paused;
    if (at && at.state !== "done" && at.name !== this.shown?.name && this.list.some((s) => s.name === at.name)) {
      this.select.value = at.name;
      this.chosen();
    }
    const next = at && at.name === this.shown?.name ? at.next : -1;
    [...this.acts.children].forEach((li, i) => {
      li.classList.toggle("past", at?.state === "done" ? next >= 0 : i < next);
      setAttribute(li, "aria-current", i === next && at.state !== "done" ? "step" : null);
    });
    const script = this.shown?.script ?? [];
    const line = this.acts.children[next];
    if (line) this.acts.scrollTop = line.offsetTop - 20;
    setText(this.progress, (playing || paused) && script[next]
      ? words("race.next", { number: next + 1, last: script.length, act: said(script[next]) }) : "");
  }
}
