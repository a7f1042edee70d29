// The tour's page: puts the parts together, and draws once a frame.

import * as api from "./api.js";
import { Book } from "./book.js";
import { check } from "./check.js";
import { Clients } from "./clients.js";
import { Columns } from "./columns.js";
import { byID, h, reducedMotion, say, setAttribute, setText, toast } from "./dom.js";
import { Hint, remember, remembered } from "./hint.js";
import { offer, put, said, translate, words } from "./language.js";
import { Log } from "./log.js";
import { Model, requests } from "./model.js";
import { linked } from "./moments.js";
import { Player, save } from "./recording.js";
import { Scenarios } from "./scenarios.js";
import { follow } from "./stream.js";
import { Timeline } from "./timeline.js";
import { reaction } from "./state.js";

const model = new Model();
const recorded = new Model(); // what a recording that is played has come to

/** now is the servers' clock, CLOCK_MONOTONIC in ns, as well as the page knows it:
 * the newest event was at least as old as the stream is slow. */
const clock = {
  offset: -Infinity,
  hear(t) {
    this.offset = Math.max(this.offset, t / 1e6 - performance.now());
  },
  now() {
    return this.offset === -Infinity ? model.time : Math.max(model.time, (performance.now() + this.offset) * 1e6);
  },
};

let session = null;
let player = null;
let frozen = false;
const views = {};

const shown = () => (player ? recorded : model);
const nowShown = () => (player ? player.now() : clock.now());

/** attempt does something that may fail, and says so. */
async function attempt(what) {
  try {
    return await what();
  } catch (error) {
    toast(error.message);
    return undefined;
  }
}

let scheduled = false;
let cost = 0; // of the last frames, ms, with layout and painting

/** changed asks for a frame; the sooner, the less the last ones have cost: what
 * the servers do must not keep the page from what its reader does. */
function changed() {
  if (scheduled || !views.scenarios) return; // begin asks again when all is there
  scheduled = true;
  if (cost < CHEAP || shown().still) requestAnimationFrame(draw);
  else setTimeout(() => requestAnimationFrame(draw), Math.min(cost * 3, 400));
}

const CHEAP = 8; // ms

function draw() {
  const began = performance.now();
  scheduled = false;
  if (player) {
    player.feed();
    player.drawBar();
  }
  const now = nowShown();
  if (!frozen) {
    views.columns.draw(now, shown());
    views.clients.draw(now);
    views.scenarios.draw(shown(), Boolean(player));
    if (api.live) views.book.reach([...model.servers.values()].filter((s) => s.state === "listening"), (s) => model.labelOf(s));
  }
  if (!frozen || !views.timeline.following) views.timeline.draw(now);
  if (!frozen) views.log.draw(now); // last: it scrolls, and so has the page laid out
  setAttribute(byID("stage"), "data-step", shown().still ? player.step() : null);
  // A message is handled when the frame has been laid out and painted.
  const painted = new MessageChannel();
  painted.port1.onmessage = () => {
    cost = cost * 0.7 + (performance.now() - began) * 0.3;
    painted.port1.close();
  };
  painted.port2.postMessage(null);
}

/** tick keeps the counters going while nothing else happens. */
function tick() {
  changed();
  setTimeout(tick, reducedMotion() ? 500 : 66);
}

function act(what) {
  return attempt(async () => {
    await session.act(what);
    views.hint.acted(what);
    describe(what.client);
  });
}

let describing = 0;

/** describe tells a screen reader, when things have settled, what came of an act. */
function describe(name) {
  clearTimeout(describing);
  describing = setTimeout(() => {
    const client = shown().clients.get(name);
    if (!client) return;
    say([...shown().servers.values()]
      .map((s) => words("outside.at", { server: s.lesson, text: reaction(s, client, shown()).text })).join(words("semicolon")));
  }, 900);
}

/** choose lights the line of a call, wherever it was chosen. */
function choose(server, call) {
  const column = views.columns.list.find((c) => c.server === server);
  views.columns.unpoint();
  if (column && call.file) column.point(call.file, call.line, call.line);
  views.timeline.choose(call);
  views.log.show(call);
}

// How the first columns are chosen: as many as there is room for, the most telling first.
function firstServers(book) {
  const steps = book.lessons.filter((l, i, all) => all.findIndex((o) => o.step === l.step) === i);
  const lessons = steps.map((l) => l.name);
  const all = book.columns?.length === lessons.length && lessons.every((name) => book.columns.includes(name));
  if (book.columns?.length && !all) return book.columns; // the command line has chosen
  const width = byID("stage").clientWidth;
  const room = width >= 2300 ? 5 : width >= 1150 ? 4 : 3;
  if (room >= lessons.length) return lessons;
  // One that serves one client and ends says the least.
  return steps.filter((l) => l.model !== "blocking").map((l) => l.name).slice(0, room);
}

const orders = {
  add: (name) => attempt(async () => {
    showView("run");
    views.columns.revealing = true;
    await session.add(name);
    say(words("servers.started", { name }));
  }),
  remove: (id) => attempt(() => session.remove(id)),
  again: (id) => attempt(() => session.again(id)),
  hold: (how, id, on) => attempt(() => session.hold(how, id, on)),
};

function buildAdd(book) {
  const select = byID("add-server");
  const option = (value, text) => h("option", { value }, text);
  const exercise = (e) => e.name.replace(/^(exercise\/)?/, "exercise/");
  const titleOf = (e) => views.book.titleOf(`exercises/${e.name.replace(/^exercise\//, "")}`) || e.title || e.name;
  views.fillAdd = () => {
    const { value } = select;
    select.replaceChildren(
      book.program ? h("optgroup", { label: words("servers.yours") }, option("program", book.program)) : "",
      h("optgroup", { label: words("servers.lessons") }, ...book.lessons.map((l) => option(l.name, l.name))),
      h("optgroup", { label: words("servers.broken") }, ...(book.exercises ?? []).map((e) => option(exercise(e), titleOf(e)))));
    select.value = value;
  };
  views.fillAdd();
  select.value = book.lessons.findLast((l) => !l.untraced)?.name ?? select.value;
  const button = byID("add-server-go");
  button.addEventListener("click", () => {
    if (button.getAttribute("aria-disabled") === "true") return;
    orders.add(select.value);
  });
  views.columns.onCount = () => {
    const full = views.columns.list.length >= (book.limits?.columns ?? 5);
    setAttribute(button, "aria-disabled", full ? "true" : null);
    button.title = full ? words("servers.full") : "";
  };
}

async function startSession(book) {
  session = await api.Session.begin();
  addEventListener("pagehide", () => session.end());
  addEventListener("pageshow", (event) => {
    if (event.persisted) location.reload(); // its servers have ended
  });
  follow(session, (events) => {
    for (const e of events) if (e.at) clock.hear(e.at);
    for (const e of events) api.allow(e.files ?? []);
    model.apply(events);
    const trouble = events.find((e) => e.type === "trouble");
    if (trouble) toast(said(trouble.error));
    changed();
  }, showConnection);
  views.clients.begin();
  for (const name of firstServers(book)) await attempt(() => session.add(name));
}

function showConnection(state) {
  if (state === "connected") {
    delete byID("connection").dataset.words;
    setText(byID("connection"), "");
  } else put(byID("connection"), `connection.${state}`);
  document.body.dataset.connection = state;
}

/** openRecording shows a recording instead of what the servers do now. session is the name
 * by which a link finds it again, null for none. */
function openRecording(recording, title, session = null) {
  const wrong = check(recording);
  if (wrong) {
    toast(wrong);
    return null;
  }
  closeRecording();
  recorded.reset();
  views.columns.recorded = recording.sources ?? null;
  player = new Player(recorded, recording, { title, session, changed, onClose: api.live ? closeRecording : null });
  setReadOnly(true);
  changed();
  return player;
}

/** lookBack opens what has happened on this page so far, at its end or at an event. */
async function lookBack(seq) {
  views.hint.close();
  openRecording(await session.recording(), () => words("player.so-far"), "")?.showEvent(seq ?? Infinity);
  byID("player-back")?.focus();
}

/** openLinked opens the moment that the address names, and returns whether it names one. */
async function openLinked(book) {
  const moment = linked(location.hash);
  if (!moment) return false;
  if (player?.options.session === moment.session) player.showEvent(moment.step);
  else if (api.live && moment.session === "" && session) await lookBack(moment.step);
  else if (!api.live && book.scenarios.some((s) => s.name === moment.session)) {
    (await openScenario(book, moment.session))?.showEvent(moment.step);
  } else {
    toast(words("link.gone"));
    return false;
  }
  return true;
}

async function openScenario(book, name) {
  const scenario = book.scenarios.find((s) => s.name === name);
  return openRecording(await api.scenarioRecording(name), () => said(scenario?.title || name), name);
}

function closeRecording() {
  if (!player) return;
  player.close();
  player = null;
  views.columns.recorded = null;
  setReadOnly(false);
  changed();
}

function setReadOnly(on) {
  document.body.classList.toggle("playback", on);
  const of = shown();
  views.columns.readOnly = on;
  views.columns.clear();
  views.clients.readOnly = on;
  views.clients.model = of;
  views.clients.clear();
  views.log.model = of;
  views.log.filterKey = "";
  views.log.again();
  views.timeline.model = of;
  views.timeline.follow(true);
}

/** showView says which half a narrow window shows: "read" or "run". */
function showView(view) {
  document.body.dataset.view = view;
  for (const b of document.querySelectorAll(".views button")) setAttribute(b, "aria-pressed", String(b.dataset.view === view));
  changed();
}

const LARGEST = 128 << 20; // bytes of a recording

function buildTools() {
  byID("save").addEventListener("click", () => attempt(async () => {
    save(await session.recording(), `lesson-tour-${new Date().toISOString().slice(0, 19).replaceAll(":", "")}.json`);
    say(words("saved"));
  }));
  byID("save").hidden = !api.live;
  byID("look-back").hidden = !api.live;
  byID("look-back").addEventListener("click", () => attempt(() => lookBack()));
  byID("open").addEventListener("click", () => byID("file").click());
  byID("file").addEventListener("change", () => attempt(async () => {
    const [file] = byID("file").files;
    if (!file) return;
    if (file.size > LARGEST) throw new Error(words("open.large", { file: file.name }));
    let recording = null;
    try {
      recording = JSON.parse(await file.text());
    } catch {
      throw new Error(words("open.no-json", { file: file.name }));
    }
    openRecording(recording, () => file.name);
    byID("file").value = "";
  }));
  byID("freeze").addEventListener("click", () => {
    frozen = !frozen;
    setAttribute(byID("freeze"), "aria-pressed", String(frozen));
    put(byID("freeze").querySelector("span"), frozen ? "frozen" : "freeze");
    document.body.classList.toggle("frozen", frozen);
    if (frozen) player?.pause();
    changed();
  });
  buildTheme();
  for (const button of document.querySelectorAll(".views button")) {
    button.addEventListener("click", () => showView(button.dataset.view));
  }
  byID("hide-book").addEventListener("click", () => {
    const hidden = document.body.classList.toggle("no-book");
    setAttribute(byID("hide-book"), "aria-expanded", String(!hidden));
    put(byID("hide-book"), hidden ? "book.show" : "book.hide");
    changed();
  });
  offer(byID("language"), speakAgain);
}

/** speakAgain draws in another language what was not in the page from the beginning. */
function speakAgain() {
  if (!views.scenarios) return; // it is not drawn yet
  views.columns.again();
  views.clients.clear();
  views.scenarios.again();
  views.log.again();
  views.timeline.need();
  views.fillAdd();
  views.book.again();
  player?.again();
  changed();
}

function buildTheme() {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const root = document.documentElement;
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : dark.matches);
  const show = () => {
    const other = isDark() ? "theme.light" : "theme.dark";
    put(byID("theme"), other);
    byID("theme").dataset.wordsAriaLabel = `${other}.label`;
    byID("theme").setAttribute("aria-label", words(`${other}.label`));
    views.timeline?.colours();
  };
  const kept = remembered("lesson-tour-theme");
  if (kept === "dark" || kept === "light") root.dataset.theme = kept;
  byID("theme").addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    remember("lesson-tour-theme", root.dataset.theme);
    show();
  });
  dark.addEventListener("change", show);
  show();
}

/** about is the name of the server that a page is about; "" for none. */
const about = (book) => (id = "") =>
  book.lessons.find((l) => l.chapter === id)?.name ?? (id.startsWith("exercises/") ? id.replace("exercises/", "exercise/") : "");

/** beside is that server, unless it runs, and how to run it beside the page. */
function beside(book) {
  if (!api.live) return () => null;
  return (id) => {
    const name = about(book)(id);
    if (!name || [...model.servers.values()].some((s) => s.lesson === name)) return null;
    return { name, words: name.startsWith("exercise/") ? words("book.run-broken") : words("book.run", { name }),
      run: () => orders.add(name) };
  };
}

/** FITS: a race of another chapter that shows what this one tells of, and the servers that it
 * needs besides the chapter's own. */
const FITS = {
  "06-level-or-edge": { race: "long-request", servers: ["epoll", "edgetriggered"] },
  "10-go-already-does-this": { race: "twelve-at-once", servers: ["threaded"] },
};

/** plays is the races of a chapter. To play one shows its servers, too. */
function plays(book) {
  const play = scenarioOrders(book).play;
  const server = beside(book);
  const absent = (id) => (FITS[id]?.servers ?? []).filter((name) => ![...model.servers.values()].some((s) => s.lesson === name));
  return (id) => (book.scenarios ?? []).filter((s) => s.chapter === `docs/${id}.md` || s.name === FITS[id]?.race).map((s) => ({
    title: s.title,
    play: async () => {
      showView("run");
      await server(id)?.run();
      if (api.live) for (const name of absent(id)) await orders.add(name);
      document.querySelector("#run-beside")?.remove();
      views.scenarios.select.value = s.name;
      views.scenarios.chosen();
      await play(s.name, 1);
    },
  }));
}

async function begin() {
  views.timeline = new Timeline(model, choose);
  views.timeline.onNeed = changed;
  views.log = new Log(model, choose);
  views.columns = new Columns(orders, changed);
  views.hint = new Hint(api.live);
  buildTools();
  const book = await api.book();
  api.allow(book.files ?? []);
  Object.assign(requests, book.requests);
  views.columns.lessons = book.lessons;
  views.clients = new Clients(model, act, Math.min(book.limits?.clients ?? 26, 26));
  views.book = new Book(book.chapters, about(book), beside(book), plays(book), {
    point: (file, from, to, open) => {
      if (open) showView("run");
      return views.columns.point(file, from, to, open);
    },
    unpoint: () => views.columns.unpoint(),
  });
  views.columns.pageTitle = (id) => views.book.titleOf(id);
  views.scenarios = new Scenarios(book.scenarios ?? [], scenarioOrders(book), api.live);
  buildAdd(book);
  views.book.fromHash();
  tick();
  addEventListener("hashchange", () => attempt(() => openLinked(book)));
  if (api.live) await startSession(book);
  else await playFirst(book);
}

function scenarioOrders(book) {
  if (!api.live) {
    return {
      play: (name) => attempt(async () => (await openScenario(book, name))?.play()),
    };
  }
  return {
    play: (name, speed, paused) => attempt(async () => {
      if (player) closeRecording();
      views.hint.close();
      await session.scenario({ name, speed, ...(paused ? { paused: true } : {}) });
    }),
    step: () => attempt(() => session.scenario({ step: true })),
    pause: (on) => attempt(() => session.scenario({ pause: on })),
    stop: () => attempt(() => session.scenario({ stop: true })),
  };
}

async function playFirst(book) {
  document.body.classList.add("static");
  if (await openLinked(book)) return;
  const [first] = book.scenarios ?? [];
  if (first) await openScenario(book, first.name);
}

translate();
begin().catch((error) => toast(words("failed", { error: error.message })));
