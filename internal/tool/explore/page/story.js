"use strict";
// The story is data, and whatever it says is text: nothing here makes HTML of it.

const report = JSON.parse(document.getElementById("story").textContent);
const steps = report.steps;
const by = id => document.getElementById(id);

function element(name, className, text) {
  const e = document.createElement(name);
  if (className) e.className = className;
  if (text !== undefined) e.textContent = text;
  return e;
}

const none = "none";
const lists = [
  ["accept queue", s => s.queue?.join(" ") || none],
  ["interest list", s => s.interest?.map(e => `${e.fd}:${e.events}`).join("  ") || none],
  ["ready list", s => s.ready?.join(" ") || none],
  ["connections", s => s.conns?.map(c => `${c.fd} of ${c.client}: ${c.unread} unread, ${c.unsent} unsent`).join("\n") || none],
  ["time", s => s.now],
];

function stepButton(step, i) {
  const button = element("button", step.who ? "" : "client");
  button.type = "button";
  button.append(element("span", "number", step.number), element("code", "", step.text));
  if (step.times) button.append(element("span", "times", `${step.times} times, up to step ${step.number + step.times - 1}`));
  for (const why of step.why ?? []) button.append(element("span", "why", `because ${why}`));
  button.addEventListener("click", () => show(i));
  const item = element("li");
  item.append(button);
  return item;
}

by("target").textContent = `${report.target}, scenario ${report.scenario}`;
by("asks").textContent = report.asks;
by("again").textContent = report.again;
by("steps").append(...steps.map(stepButton));
by("slider").max = steps.length - 1;

let shownFile = null;

function showSource(step) {
  const box = by("source");
  const known = report.sources[step.file];
  if (step.file && step.file !== shownFile) {
    const lines = known === undefined ? [] : known.split("\n");
    box.replaceChildren(...lines.map((line, i) => {
      const row = element("div");
      row.append(element("span", "", i + 1), line);
      return row;
    }));
    shownFile = step.file;
  }
  by("source-title").textContent = step.file ? `${step.file}:${step.line}` : "Source: a client acts, no line runs";
  box.querySelector(".lit")?.classList.remove("lit");
  const row = step.file ? box.children[step.line - 1] : null;
  if (row) {
    row.classList.add("lit");
    box.scrollTop = row.offsetTop - box.offsetTop - box.clientHeight / 2;
  }
}

function showKernel(i) {
  const rows = [];
  for (const [name, write] of lists) {
    const now = write(steps[i].state);
    const changed = i > 0 && now !== write(steps[i - 1].state);
    const value = element("dd", changed ? "changed" : "");
    value.append(...now.split("\n").flatMap((line, n) => n ? [element("br"), line] : [line]));
    rows.push(element("dt", "", name), value);
  }
  by("kernel").replaceChildren(...rows);
}

let at = 0;

function show(i) {
  at = Math.max(0, Math.min(i, steps.length - 1));
  const ended = at === steps.length - 1;
  by("steps").querySelectorAll("button").forEach((button, n) => {
    button.classList.toggle("later", n > at);
    if (n === at) {
      button.setAttribute("aria-current", "step");
      button.scrollIntoView({block: "nearest"});
    } else {
      button.removeAttribute("aria-current");
    }
  });
  by("slider").value = at;
  by("slider").setAttribute("aria-valuetext", `step ${steps[at].number}: ${steps[at].text}`);
  by("position").textContent = `step ${steps[at].number} of ${steps.at(-1).number}`;
  by("first").disabled = by("back").disabled = at === 0;
  by("next").disabled = by("last").disabled = ended;
  by("verdict").textContent = ended ? report.verdict : "";
  if (ended) by("verdict").scrollIntoView({block: "nearest"});
  showKernel(at);
  showSource(steps[at]);
}

by("first").addEventListener("click", () => show(0));
by("back").addEventListener("click", () => show(at - 1));
by("next").addEventListener("click", () => show(at + 1));
by("last").addEventListener("click", () => show(steps.length - 1));
by("slider").addEventListener("input", event => show(Number(event.target.value)));

const keys = {ArrowLeft: () => at - 1, ArrowRight: () => at + 1, Home: () => 0, End: () => steps.length - 1};
document.addEventListener("keydown", event => {
  const modified = event.altKey || event.ctrlKey || event.metaKey || event.shiftKey;
  if (!keys[event.key] || modified || event.target === by("slider")) return;
  event.preventDefault();
  show(keys[event.key]());
});

show(0);
