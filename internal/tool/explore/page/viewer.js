// The viewer of a story. Whatever the story says is text: nothing here makes HTML of it.

const {words, said, fill, put, translate, offer, tag, language} = speech(JSON.parse(document.getElementById("words").textContent));

const by = id => document.getElementById(id);

function element(name, className, text) {
  const e = document.createElement(name);
  if (className) e.className = className;
  if (text !== undefined) e.textContent = text;
  return e;
}

const lists = [
  ["viewer.queue", s => s.queue?.join(" ")],
  ["viewer.interest", s => s.interest?.map(e => `${e.fd}:${e.events}`).join("  ")],
  ["viewer.ready", s => s.ready?.join(" ")],
  ["viewer.conns", s => s.conns?.map(c => words("viewer.conn", c)).join("\n")],
  ["viewer.time", s => s.now],
];

function stepButton(step, i) {
  const button = element("button", step.who ? "" : "client");
  button.type = "button";
  button.append(element("span", "number", step.number), element("code", "", said(step.said ?? step.text)));
  if (step.times) button.append(element("span", "times", words("viewer.times", {times: step.times, last: step.number + step.times - 1})));
  for (const why of step.reasons ?? step.why ?? []) button.append(element("span", "why", words("viewer.because", {why: said(why)})));
  button.addEventListener("click", () => viewer.show(i));
  const item = element("li");
  item.append(button);
  return item;
}

const viewer = {steps: [], sources: {}, verdict: "", at: 0};

/** reveal brings the button of a step into view. */
viewer.reveal = button => button.scrollIntoView({block: "nearest"});

/** load shows another story, at one of its steps. */
viewer.load = (story, at) => {
  Object.assign(viewer, story);
  by("steps").replaceChildren(...viewer.steps.map(stepButton));
  by("slider").max = viewer.steps.length - 1;
  viewer.show(at);
};

/** blocked returns the steps in which calls began that have not returned after step i. */
viewer.blocked = i => {
  const seen = viewer.steps.slice(0, i + 1);
  const returned = new Set(seen.map(step => step.began));
  return seen.filter(step => step.who && step.text.endsWith(" waits") && !returned.has(step.number));
};

const rowsOf = new Map(); // by file: the rows of its lines, made once
let marked = []; // the rows that are lit

function sourceRows(file) {
  if (!rowsOf.has(file)) {
    const lines = viewer.sources[file]?.split("\n") ?? [];
    rowsOf.set(file, lines.map((line, n) => {
      const row = element("div");
      row.append(element("span", "", n + 1), line);
      return row;
    }));
  }
  return rowsOf.get(file);
}

let shownFile = null;

function showSource(i) {
  const box = by("source");
  const blocked = viewer.blocked(i);
  const own = viewer.steps[i].file ? viewer.steps[i] : null;
  const step = own ?? blocked.at(-1) ?? {};
  if (step.file && step.file !== shownFile) {
    shownFile = step.file;
    box.replaceChildren(...sourceRows(shownFile));
  }
  const waits = [...new Set(blocked.filter(b => b.file === shownFile).map(b => b.line))];
  for (const row of marked) row.classList.remove("lit", "blocked");
  marked = [];
  const mark = (line, name) => {
    const row = box.children[line - 1];
    row?.classList.add(name);
    if (row) marked.push(row);
  };
  if (own) mark(own.line, "lit");
  for (const line of waits) mark(line, "blocked");
  by("source-title").textContent = !step.file ? words("viewer.source.none")
    : own ? `${step.file}:${step.line}`
    : words("viewer.source.blocked", {file: step.file, lines: waits.join(", ")});
  const row = step.file ? box.children[step.line - 1] : null;
  if (row) box.scrollTop = row.offsetTop - box.clientHeight / 2;
}

function showKernel(i) {
  const rows = [];
  for (const [name, write] of lists) {
    const {steps} = viewer;
    const now = write(steps[i].state) || words("viewer.none");
    const changed = i > 0 && now !== (write(steps[i - 1].state) || words("viewer.none"));
    const value = element("dd", changed ? "changed" : "");
    value.append(...now.split("\n").flatMap((line, n) => n ? [element("br"), line] : [line]));
    rows.push(element("dt", "", words(name)), value);
  }
  by("kernel").replaceChildren(...rows);
}

/** show shows the step with index i, or the nearest that there is. */
viewer.show = i => {
  const {steps} = viewer;
  const at = viewer.at = Math.max(0, Math.min(i, steps.length - 1));
  const ended = at === steps.length - 1;
  by("steps").querySelectorAll("button").forEach((button, n) => {
    button.classList.toggle("later", n > at);
    if (n === at) {
      button.setAttribute("aria-current", "step");
      viewer.reveal(button);
    } else {
      button.removeAttribute("aria-current");
    }
  });
  by("slider").value = at;
  by("slider").setAttribute("aria-valuetext", words("viewer.says", {n: steps[at].number, text: said(steps[at].said ?? steps[at].text)}));
  by("position").textContent = words("viewer.position", {step: steps[at].number, last: steps.at(-1).number});
  by("first").disabled = by("back").disabled = at === 0;
  by("next").disabled = by("last").disabled = ended;
  by("verdict").textContent = ended ? viewer.verdict : "";
  showKernel(at);
  showSource(at);
  viewer.shown?.(at);
};

by("first").addEventListener("click", () => viewer.show(0));
by("back").addEventListener("click", () => viewer.show(viewer.at - 1));
by("next").addEventListener("click", () => viewer.show(viewer.at + 1));
by("last").addEventListener("click", () => viewer.show(viewer.steps.length - 1));
by("slider").addEventListener("input", event => viewer.show(Number(event.target.value)));

const keys = {
  ArrowLeft: () => viewer.at - 1, ArrowRight: () => viewer.at + 1,
  Home: () => 0, End: () => viewer.steps.length - 1,
};
document.addEventListener("keydown", event => {
  const modified = event.altKey || event.ctrlKey || event.metaKey || event.shiftKey;
  if (!keys[event.key] || modified || event.target.matches("input, select, textarea")) return;
  event.preventDefault();
  viewer.show(keys[event.key]());
});

translate();
