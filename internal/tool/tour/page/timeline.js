// The timeline: a lane per server and thread, each call a box as long as it took.

import { byID, h, reducedMotion, setAttribute, setText } from "./dom.js";
import { words } from "./language.js";
import { actText, callText } from "./state.js";

const LABELS = 114; // px at the left
const LANE = 20; // px
const GAP = 7; // px between two servers
const AXIS = 20; // px at the bottom
const SHORTEST = 100e3; // ns, of what can be seen at once
const LONGEST = 600e9;
const HUES = 9; // the last belongs to no client

/** Timeline draws on a canvas what can be seen of the calls, and nothing else. */
export class Timeline {
  constructor(model, onChoose) {
    this.model = model;
    this.onChoose = onChoose;
    this.root = byID("timeline");
    this.canvas = this.root.querySelector("canvas");
    this.tip = byID("time-tip");
    this.context = this.canvas.getContext("2d");
    this.span = 12e9; // ns
    this.end = 0; // the time at the right edge
    this.following = true;
    this.lanes = []; // {server, lane, y}
    this.chosen = null;
    this.listen();
    this.colours();
    this.width = this.root.clientWidth;
    new ResizeObserver(() => {
      this.width = this.root.clientWidth;
      this.need();
    }).observe(this.root);
  }

  listen() {
    for (const button of document.querySelectorAll("[data-time]")) {
      button.addEventListener("click", () => this.order(button.dataset.time));
    }
    this.root.addEventListener("keydown", (event) => {
      const order = { ArrowLeft: "earlier", ArrowRight: "later", "+": "in", "=": "in", "-": "out", End: "now" }[event.key];
      if (!order || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      event.stopPropagation();
      this.order(order);
    });
    this.canvas.addEventListener("wheel", (event) => {
      if (event.ctrlKey || event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
        event.preventDefault();
        if (event.ctrlKey) this.zoom(event.deltaY > 0 ? 1.25 : 0.8, event.offsetX);
        else this.move(((event.deltaX || event.deltaY) / this.plot()) * this.span);
      }
    }, { passive: false });
    let drag = null;
    this.canvas.addEventListener("pointerdown", (event) => {
      drag = { x: event.clientX, end: this.end, moved: false };
      this.canvas.setPointerCapture(event.pointerId);
    });
    this.canvas.addEventListener("pointermove", (event) => {
      if (!drag) return this.hover(event);
      const by = event.clientX - drag.x;
      if (Math.abs(by) > 3) drag.moved = true;
      if (drag.moved) {
        this.follow(false);
        this.end = drag.end - (by / this.plot()) * this.span;
        this.need();
      }
      return undefined;
    });
    this.canvas.addEventListener("pointerup", (event) => {
      if (drag && !drag.moved) this.click(event);
      drag = null;
    });
    this.canvas.addEventListener("pointerleave", () => { this.tip.hidden = true; });
  }

  need() {
    this.dirty = true;
    this.onNeed?.();
  }

  order(order) {
    switch (order) {
      case "earlier": return this.move(-this.span / 4);
      case "later": return this.move(this.span / 4);
      case "in": return this.zoom(0.5, this.following ? this.width : LABELS + this.plot() / 2);
      case "out": return this.zoom(2, this.following ? this.width : LABELS + this.plot() / 2);
      default: return this.follow(true);
    }
  }

  follow(on) {
    this.following = on;
    const button = document.querySelector('[data-time="now"]');
    setAttribute(button, "aria-pressed", String(on));
    this.need();
  }

  move(by) {
    this.follow(false);
    this.end += by;
    this.need();
  }

  zoom(by, x) {
    const span = Math.min(Math.max(this.span * by, SHORTEST), LONGEST);
    const at = this.timeAt(x);
    const part = (x - LABELS) / this.plot();
    this.end = at + (1 - part) * span;
    this.span = span;
    this.need();
  }

  plot() {
    return Math.max(50, this.width - LABELS - 8);
  }

  timeAt(x) {
    return this.end - this.span + ((x - LABELS) / this.plot()) * this.span;
  }

  /** colours asks the style sheet, so that light and dark are decided there. */
  colours() {
    const probe = h("span", { class: "probe", "aria-hidden": "true" });
    document.body.append(probe);
    const of = (name) => {
      probe.className = `probe ${name}`;
      const style = getComputedStyle(probe);
      return [style.color, style.backgroundColor];
    };
    this.hue = [];
    for (let i = 0; i < HUES; i++) this.hue.push(of(`hue-${i}`));
    [this.ink, this.surface] = of("probe-ink");
    [this.muted, this.line] = of("probe-muted");
    [this.accent] = of("probe-accent");
    probe.remove();
    this.hatch = this.hue.map(([colour]) => hatching(this.context, colour));
    this.need();
  }

  /** draw is called once a frame at the most. */
  draw(now) {
    if (this.following) this.end = now + this.span * 0.02;
    if (!this.following && !this.dirty && this.drawnVersion === this.model.version) return;
    if (this.following && !this.dirty && !this.model.still && reducedMotion() && performance.now() - (this.drawnAt ?? 0) < 1000) return;
    this.dirty = false;
    this.drawnVersion = this.model.version;
    this.drawnAt = performance.now();
    this.layout();
    const { context: c } = this;
    const width = this.width;
    c.clearRect(0, 0, width, this.height);
    this.drawAxis(width);
    this.drawActs();
    for (const lane of this.lanes) this.drawLabel(lane);
    c.save();
    c.beginPath();
    c.rect(LABELS, 0, width - LABELS, this.height);
    c.clip();
    for (const server of this.model.servers.values()) this.drawCalls(server, now);
    c.restore();
  }

  layout() {
    this.lanes = [];
    this.laneAt = new Map();
    let y = 4;
    for (const server of this.model.servers.values()) {
      const first = y;
      server.lanes.forEach((lane, i) => {
        const entry = { server, lane, index: i, y };
        this.lanes.push(entry);
        this.laneAt.set(`${server.id}.${i}`, y);
        y += LANE;
      });
      this.lanes[this.lanes.length - server.lanes.length].first = first;
      y += GAP;
    }
    this.height = Math.max(y + AXIS, 90);
    const ratio = window.devicePixelRatio || 1;
    const width = Math.round(this.width * ratio);
    const height = Math.round(this.height * ratio);
    if (this.canvas.width !== width || this.canvas.height !== height) {
      this.canvas.width = width;
      this.canvas.height = height;
      // Through the object model, which the page's policy allows.
      this.canvas.style.height = `${this.height}px`;
    }
    this.context.setTransform(ratio, 0, 0, ratio, 0, 0);
  }

  drawLabel({ server, index, y }) {
    const c = this.context;
    c.font = "600 12px system-ui, sans-serif";
    c.textBaseline = "middle";
    c.textAlign = "left";
    const name = this.model.labelOf(server);
    if (index === 0) {
      c.fillStyle = this.ink;
      c.fillText(fit(c, name, LABELS - 10), 4, y + LANE / 2);
    } else {
      c.font = "11px system-ui, sans-serif";
      c.fillStyle = this.muted;
      c.fillText(words("time.thread", { number: index + 1 }), 14, y + LANE / 2);
    }
    c.fillStyle = this.line;
    c.fillRect(LABELS, y + LANE - 1, this.width - LABELS, 1);
  }

  drawAxis(width) {
    const c = this.context;
    const y = this.height - AXIS;
    const step = niceStep(this.span / Math.max(2, this.plot() / 110));
    const first = Math.max(0, Math.ceil((this.end - this.span - this.model.first) / step) * step);
    c.font = "11px system-ui, sans-serif";
    c.textAlign = "center";
    c.textBaseline = "middle";
    for (let t = first; t <= this.end - this.model.first; t += step) {
      const x = this.x(t + this.model.first);
      c.fillStyle = this.line;
      c.fillRect(x, 0, 1, y);
      c.fillStyle = this.muted;
      if (x > LABELS + 16 && x < width - 24) c.fillText(axisText(t, step), x, y + AXIS / 2);
    }
  }

  /** drawActs marks when the clients acted. */
  drawActs() {
    const c = this.context;
    const notes = this.model.notes;
    c.fillStyle = this.accent;
    for (let i = notes.length - 1; i >= 0; i--) {
      const note = notes.at(i);
      if (note.at < this.end - this.span) break;
      if (!note.act || note.at > this.end) continue;
      const x = this.x(note.at);
      c.fillRect(x, 0, 1, this.height - AXIS);
      c.beginPath();
      c.moveTo(x - 4, this.height - AXIS);
      c.lineTo(x + 5, this.height - AXIS);
      c.lineTo(x + 0.5, this.height - AXIS - 6);
      c.fill();
    }
  }

  x(t) {
    return LABELS + ((t - (this.end - this.span)) / this.span) * this.plot();
  }

  drawCalls(server, now) {
    const from = this.end - this.span;
    const reached = server.lanes.map(() => -1); // how far each lane is full, px
    const calls = server.calls;
    for (let i = firstAfter(calls, from); i < calls.length; i++) {
      const call = calls.at(i);
      if (call.start <= this.end) this.drawCall(server, call, call.end, reached);
    }
    for (const call of server.open.values()) {
      if (call.start <= this.end) this.drawCall(server, call, Math.max(now, call.start), reached);
    }
  }

  drawCall(server, call, end, reached) {
    const y = this.laneAt.get(`${server.id}.${call.lane}`);
    if (y === undefined) return;
    const left = Math.max(this.x(call.start), LABELS - 4);
    const right = Math.min(this.x(end), this.width + 4);
    const chosen = call === this.chosen;
    if (right - left < 1 && Math.floor(right) <= reached[call.lane] && !chosen) return; // merged
    reached[call.lane] = Math.floor(right);
    const width = Math.max(right - left, 2);
    const c = this.context;
    const name = this.model.nameOf(call.peer);
    const hue = Math.min(name ? this.model.hueOf(name) : HUES - 1, HUES - 1);
    const [colour, tint] = this.hue[hue];
    const height = LANE - 4;
    const blocked = !call.end || call.blocked;
    c.fillStyle = blocked ? tint : colour;
    c.fillRect(left, y, width, height);
    if (blocked && width > 3) {
      c.fillStyle = this.hatch[hue];
      c.fillRect(left, y, width, height);
      c.strokeStyle = colour;
      c.lineWidth = 1;
      c.strokeRect(left + 0.5, y + 0.5, width - 1, height - 1);
    }
    if (chosen) {
      c.strokeStyle = this.ink;
      c.lineWidth = 2;
      c.strokeRect(left - 1, y - 1, width + 2, height + 2);
    }
    if (width > 14) this.drawName(call, name, left, y, width, height, blocked);
  }

  drawName(call, name, left, y, width, height, blocked) {
    const c = this.context;
    c.font = "11px ui-monospace, monospace";
    c.textBaseline = "middle";
    c.textAlign = "left";
    let text = name ? `${name} ${call.name}` : call.name;
    if (c.measureText(text).width > width - 6) text = name;
    if (!text || c.measureText(text).width > width - 6) return;
    const at = Math.max(left, LABELS) + 4;
    if (blocked) { // a plate, so that the hatching does not cross the letters
      c.fillStyle = this.surface;
      c.fillRect(at - 2, y + 2, c.measureText(text).width + 4, height - 4);
    }
    c.fillStyle = blocked ? this.ink : this.surface;
    c.fillText(text, at, y + height / 2 + 0.5);
  }

  /** at is the call under a place of the canvas. */
  at(event) {
    const lane = this.lanes.find((l) => event.offsetY >= l.y - 2 && event.offsetY < l.y + LANE - 2);
    if (!lane || event.offsetX < LABELS) return null;
    const t = this.timeAt(event.offsetX);
    const slack = (4 / this.plot()) * this.span;
    let best = null;
    let distance = Infinity;
    const consider = (call) => {
      if (call.lane !== lane.index) return;
      const end = call.end || Infinity;
      const d = t < call.start ? call.start - t : t > end ? t - end : 0;
      // Of two at the same place the shorter one: it is harder to hit.
      if (d <= slack && (d < distance || (d === distance && lasted(call) < lasted(best)))) {
        best = call;
        distance = d;
      }
    };
    const calls = lane.server.calls;
    for (let i = firstAfter(calls, t - slack); i < calls.length; i++) {
      const call = calls.at(i);
      consider(call);
    }
    for (const call of lane.server.open.values()) consider(call);
    return best ? { call: best, server: lane.server } : null;
  }

  hover(event) {
    const hit = this.at(event);
    this.tip.hidden = !hit;
    this.canvas.classList.toggle("hit", Boolean(hit));
    if (!hit) return;
    const name = this.model.nameOf(hit.call.peer);
    setText(this.tip, `${name ? `${name}: ` : ""}${callText(hit.call, this.model.time)}  ${hit.call.file}:${hit.call.line}`);
  }

  click(event) {
    const hit = this.at(event);
    if (hit) this.onChoose(hit.server, hit.call);
  }

  choose(call) {
    this.chosen = call;
    const end = call.end || call.start;
    if (end < this.end - this.span || call.start > this.end) {
      this.follow(false);
      this.end = end + this.span / 2;
    }
    this.need();
  }

  /** lastAct is what a legend may say. */
  lastAct() {
    const act = this.model.lastAct;
    return act ? actText(act) : "";
  }
}

const lasted = (call) => call.took ?? 0;

/** firstAfter is the first call that ended after t. They are kept in that order. */
function firstAfter(calls, t) {
  let low = 0;
  let high = calls.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (calls.at(middle).end < t) low = middle + 1;
    else high = middle;
  }
  return low;
}

function hatching(context, colour) {
  const tile = document.createElement("canvas");
  tile.width = tile.height = 7;
  const c = tile.getContext("2d");
  c.strokeStyle = colour;
  c.globalAlpha = 0.5;
  c.lineWidth = 1.2;
  for (const shift of [-7, 0, 7]) {
    c.beginPath();
    c.moveTo(shift, 7);
    c.lineTo(shift + 7, 0);
    c.stroke();
  }
  return context.createPattern(tile, "repeat");
}

function fit(c, text, width) {
  if (c.measureText(text).width <= width) return text;
  let short = text;
  while (short.length > 1 && c.measureText(`${short}…`).width > width) short = short.slice(0, -1);
  return `${short}…`;
}

/** niceStep is 1, 2 or 5 of some power of ten, not below the wanted one. */
function niceStep(wanted) {
  const power = 10 ** Math.floor(Math.log10(wanted));
  return [1, 2, 5, 10].map((n) => n * power).find((s) => s >= wanted);
}

function axisText(t, step) {
  if (step >= 1e9) return `${Math.round(t / 1e9)} s`;
  const digits = Math.min(6, Math.ceil(-Math.log10(step / 1e9)));
  return `${(t / 1e9).toFixed(digits)} s`;
}
