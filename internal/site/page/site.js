
// The page keeps the server's name and the acts, and nothing else: after each act, the
// module runs the server again from the beginning, and the viewer shows where that ends.
// Or it keeps the story that is shown.

const data = JSON.parse(by("data").textContent);
const atFirst = ["a", "b"]; // the others are shown when both are connected
let server = "loop";
let acts = [];
let story = null;
const startable = ".play button, [data-act], #server, #scenario, #story"; // what waits for the module
let ready = false;

for (const s of data.servers) by("server").append(new Option("", s.name));
for (const s of data.scenarios) by("scenario").append(new Option("", s.acts));
for (const s of data.stories) by("story").append(new Option("", s.order));

/** options writes what the lists offer. */
function options() {
  data.servers.forEach((s, i) => { by("server").options[i].text = words("server.option", {name: s.name, title: said(s.title)}); });
  data.scenarios.forEach((s, i) => { by("scenario").options[i + 1].text = said(s.title); });
  data.stories.forEach((s, i) => { by("story").options[i + 1].text = said(s.title); });
}
options();

// The chapters are a page that a browser does not open from a folder.
const book = location.protocol === "file:" ? "" : data.book;
const bookLink = page => `${book}#${page}`;
if (book) {
  by("book").hidden = false;
  by("book").firstElementChild.href = book;
  document.querySelectorAll("a[data-page]").forEach(a => { a.href = bookLink(a.dataset.page); });
}
by("chapter").hidden = !book;

/** run runs the server with the acts, and shows the last step, or the one that is asked for. */
function run(step) {
  const result = JSON.parse(perform(server, acts.join("-")));
  if (result.error) { // of the last act, or of a link: without it
    acts.pop();
    run(step);
    by("outcome").textContent = words("end", {text: said(result.error)});
    return;
  }
  const waits = result.waits ?? [];
  story = null;
  by("clients").replaceChildren(...result.clients?.filter(shownClient).map(card) ?? []);
  by("outcome").textContent = [result.ended, ...waits].filter(s => s?.text).map(s => words("end", {text: said(s)})).join(" ");
  load(result.steps, step);
}

/** tell shows a story of the explorer: the reader's clients take no part. */
function tell(one, step) {
  const result = JSON.parse(retell(one.server, one.order));
  story = one;
  server = one.server;
  acts = [];
  by("clients").replaceChildren();
  by("outcome").textContent = words("end", {text: said(result.failed ?? result.failure.text)});
  load(result.steps, step);
}

/** load gives the viewer the steps. It shows the last, or the one that is asked for. */
function load(steps, step) {
  const at = steps.findLastIndex(s => s.number <= step);
  const about = data.servers.find(s => s.name === server);
  by("server").value = server;
  by("scenario").value = data.scenarios.find(s => !story && s.acts === acts.join("-"))?.acts ?? "";
  by("story").value = story?.order ?? "";
  by("told").hidden = !story;
  if (story) fill(by("told"), words("story.told", {command: `\`lesson explore ${parseInt(server, 10)} --replay ${story.order}\``}));
  if (book) by("chapter").href = bookLink(about.page);
  by("real").textContent = about.run;
  by("undo").disabled = acts.length === 0;
  by("restart").disabled = acts.length === 0 && !story;
  viewer.load({steps, sources: data.sources, verdict: ""}, step === undefined || at < 0 ? steps.length - 1 : at);
}

/** again shows what is shown in another language. */
function again() {
  const {number} = viewer.steps[viewer.at];
  if (story) tell(story, number);
  else run(number);
}

function shownClient(client, _, all) {
  const both = all.slice(0, atFirst.length).every(c => c.state.text !== "not connected");
  return atFirst.includes(client.name) || both;
}

function card(client) {
  const box = element("section", "card");
  const title = element("h3", "", words("card", client));
  title.append(element("span", "", said(client.state)));
  title.id = `client-${client.name}`;
  box.setAttribute("aria-labelledby", title.id);
  const bar = element("div", "bar");
  for (const verb of client.can) {
    const button = element("button", "", words(`verb.${verb}`));
    button.type = "button";
    button.id = `act-${client.name}${verb}`;
    button.setAttribute("aria-label", words("card.verb", {name: client.name, verb: {key: `verb.${verb}`}}));
    button.addEventListener("click", () => act(client.name + verb));
    bar.append(button);
  }
  box.append(title, bar);
  return box;
}

/** act adds an act. The focus stays with its client: the button may have gone. */
function act(text) {
  const client = text.length === 2 ? text[0] : null;
  acts.push(text);
  run();
  if (client) (by(`act-${text}`) ?? document.querySelector(`[aria-labelledby="client-${client}"] button`))?.focus();
  setHash();
}

function setHash() {
  const what = story ? {story: story.order} : {acts: acts.join("-")};
  const link = new URLSearchParams({server, ...what, step: viewer.steps[viewer.at].number});
  history.replaceState(null, "", `#${link}`);
}

/** fromHash takes a moment from the address, and reports whether there is one. */
function fromHash() {
  const link = new URLSearchParams(location.hash.slice(1));
  if (!data.servers.some(s => s.name === link.get("server"))) return false;
  const step = Number(link.get("step")) || undefined;
  const one = data.stories.find(s => s.server === link.get("server") && s.order === link.get("story"));
  if (one) {
    tell(one, step);
    return true;
  }
  server = link.get("server");
  acts = (link.get("acts") ?? "").split("-").filter(Boolean);
  run(step);
  return true;
}

let shownBefore = 0;
let play = null; // the one that was begun last

// Only the list scrolls: the page stays with the play.
viewer.reveal = button => {
  const list = by("steps");
  list.scrollTop = button.offsetTop - list.clientHeight / 2;
};

/** where says in three lines what happens at a step: it stays in view beside the plays. */
function where(at) {
  const step = viewer.steps[at];
  const blocked = viewer.blocked(at);
  const line = step.file ? step : blocked.at(-1);
  const text = line ? viewer.sources[line.file].split("\n")[line.line - 1].trim() : "";
  const all = blocked.includes(line) ? words("blocked", {lines: [...new Set(blocked.map(b => b.line))].join(", ")}) : line?.line;
  const held = [["viewer.queue", step.state.queue], ["viewer.ready", step.state.ready]];
  by("where").replaceChildren(
    element("span", "", `${step.number}: ${said(step.said ?? step.text)}`),
    element("span", line ? "line" : "", line ? `${all}: ${text}` : words("where.none")),
    element("span", "", held.map(([name, list]) => words("list", {name: {key: name}, what: list?.join(" ") || words("where.empty")})).join(words("comma"))));
}

viewer.shown = at => {
  where(at);
  if (!ready) return;
  if (play && at < shownBefore) play.querySelector(".asked").hidden = false;
  shownBefore = at;
  setHash();
};

document.querySelectorAll(".play").forEach(one => {
  one.querySelectorAll("[data-acts]").forEach(button => button.addEventListener("click", () => {
    server = button.dataset.server;
    acts = button.dataset.acts.split("-");
    play = one;
    shownBefore = 0; // a shorter story is no step back
    document.querySelectorAll(".play [aria-pressed]").forEach(b => b.setAttribute("aria-pressed", b === button));
    run();
    setHash();
  }));
  one.querySelector("[data-back]").addEventListener("click", () => viewer.show(viewer.at - 1));
  one.querySelectorAll("input").forEach(choice => choice.addEventListener("change", () => {
    put(one.querySelector(".says"), `${choice.nextElementSibling.dataset.words}.says`);
    if ("right" in choice.dataset) one.querySelector(".after").hidden = false;
  }));
});

document.querySelectorAll("[data-act]").forEach(b => b.addEventListener("click", () => act(b.dataset.act)));
by("server").addEventListener("change", () => {
  server = by("server").value;
  shownBefore = 0;
  run();
  setHash();
});
by("scenario").addEventListener("change", () => {
  acts = by("scenario").value.split("-").filter(Boolean);
  shownBefore = 0;
  run();
  setHash();
});
by("story").addEventListener("change", () => {
  const one = data.stories.find(s => s.order === by("story").value);
  shownBefore = 0;
  if (one) tell(one);
  else run();
  setHash();
});
by("undo").addEventListener("click", () => {
  acts.pop();
  shownBefore = 0;
  run();
  setHash();
});
by("restart").addEventListener("click", () => {
  acts = [];
  shownBefore = 0;
  run();
  setHash();
});
addEventListener("hashchange", fromHash);

async function start() {
  const text = by("wasm").textContent;
  const packed = Uint8Array.fromBase64?.(text) ?? Uint8Array.from(atob(text), c => c.charCodeAt(0));
  by("wasm").remove();
  const module = new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip")),
    {headers: {"Content-Type": "application/wasm"}});
  const go = new Go();
  const begun = new Promise(done => { globalThis.begun = done; }); // the module calls it
  const {instance} = await WebAssembly.instantiateStreaming(module, go.importObject);
  go.run(instance).then(() => put(by("loading"), "loading.ended"));
  await begun;
  if (!fromHash()) run();
  ready = true;
  document.querySelectorAll(startable).forEach(b => { b.disabled = false; });
  put(by("loading"), "loading.done");
}

document.querySelectorAll(startable).forEach(b => { b.disabled = true; });
document.querySelectorAll(".play [data-acts]").forEach(b => b.setAttribute("aria-pressed", "false"));
// The module is the last of the page: what is before it is shown while it is loaded.
document.addEventListener("DOMContentLoaded", () => start().catch(error => {
  delete by("loading").dataset.words;
  by("loading").textContent = words("loading.failed", {error: error.message});
}));
offer(by("language"), () => {
  options();
  ask();
  if (ready) again();
});
