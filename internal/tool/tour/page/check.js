// What a recording may hold. It is a file from any source, so all of it is checked
// before anything of it is shown.

import { words } from "./language.js";

/** VERSION is the format that this page plays: recordingVersion in record.go. */
const VERSION = 2;

// Bounds beyond any session of the tour.
const EVENTS = 200000;
const SERVERS = 32; // at a time
const CLIENTS = 2000;
const FILES = 500;
const LINES = 20000; // of a file
const LIST = 16384;
const NAME = 1000; // characters
const TEXT = 65536;
const LATEST = 1e18; // ns
const LONGEST = 7 * 24 * 3600e9;

// A shape is a function: whether a value has it.
const name = (v) => typeof v === "string" && v !== "" && v.length <= NAME;
const text = (v) => typeof v === "string" && v.length <= TEXT;
const number = (v) => Number.isFinite(v) && Math.abs(v) <= LATEST;
const moment = (v) => number(v) && v >= 0;
const list = (each) => (v) => Array.isArray(v) && v.length <= LIST && v.every(each);
const maybe = (shape) => (v) => v === undefined || v === null || shape(v);
const object = (fields) => (v) => v !== null && typeof v === "object" &&
  Object.entries(fields).every(([field, shape]) => shape(v[field]));

const call = object({
  call: number, at: moment, name, fd: number, args: text, file: text, line: number, thread: number,
  peer: maybe(name), took: maybe(moment), result: number, err: maybe(text), data: maybe(text),
  ready: maybe(list(object({ fd: number, events: text, peer: maybe(name) }))),
});

// Words that the program says: see package words.
const value = (v) => text(v) || number(v) || list(value)(v) || sentence(v);
const said = { text, form: maybe(text), args: maybe(list(value)) };
const sentence = object(said);

const shapes = {
  server: object({
    server: name, state: name, lesson: maybe(name), title: maybe(text), addr: maybe(text),
    files: maybe(list(name)), error: maybe(text), hint: maybe(text), note: maybe(text),
    said: maybe(sentence), noted: maybe(sentence),
  }),
  call: object({ server: name, event: call }),
  missed: object({ server: name, calls: number, open: maybe(list(call)) }),
  kernel: object({
    server: name, threads: number, listener: maybe(object({ queue: number, backlog: number })),
    conns: maybe(list(object({
      client: name, peer: name, fd: number, state: name, unread: number, unsent: number,
    }))),
    interest: maybe(list(object({ fd: number, events: text, client: maybe(text), what: maybe(text) }))),
    stands: maybe(object({ call: name, fd: number })),
    verdicts: maybe(list(object({ kind: name, ...said }))),
  }),
  client: object({
    server: name, client: name, peer: maybe(name), state: name, sent: number, got: text, note: maybe(text),
  }),
  act: object({ act: object({ client: name, do: name, bytes: maybe(text) }), ...said, text: maybe(text) }),
  scenario: object({ name: maybe(text), state: name }),
};

/** check says what is wrong with something that should be a recording, "" if nothing. */
export function check(recording) {
  if (!recording || typeof recording !== "object" || !Array.isArray(recording.log)) {
    return words("check.other");
  }
  if (recording.version !== VERSION) {
    return words("check.version", { version: recording.version, ours: VERSION });
  }
  if (recording.log.length > EVENTS) return words("check.events", { most: EVENTS });
  const header = object({ seq: moment, at: moment, type: name });
  const wrong = recording.log.findIndex((e) => !header(e) || !(shapes[e.type] ?? (() => true))(e));
  if (wrong >= 0) return words("check.damaged", { number: wrong + 1 });
  return checkServers(recording.log) || checkTimes(recording.log) || checkSources(recording.sources ?? {});
}

function checkServers(log) {
  const shown = new Set();
  const clients = new Set();
  let most = 0;
  for (const e of log) {
    if (e.type === "server" && e.state === "removed") shown.delete(e.server);
    else if (e.type === "server") shown.add(e.server);
    most = Math.max(most, shown.size);
    if (e.type === "client") clients.add(e.client);
    if (e.type === "act") clients.add(e.act.client);
  }
  if (most === 0) return words("check.none");
  if (most > SERVERS) return words("check.servers", { most: SERVERS });
  return clients.size > CLIENTS ? words("check.clients", { most: CLIENTS }) : "";
}

function checkTimes(log) {
  const times = log.map((e) => e.at);
  const lasts = times.reduce((a, b) => Math.max(a, b)) - times.reduce((a, b) => Math.min(a, b));
  return lasts > LONGEST ? words("check.long") : "";
}

function checkSources(sources) {
  const files = Object.entries(sources);
  const fits = ([file, source]) => name(file) && typeof source === "string" &&
    source.length <= 1 << 20 && source.split("\n").length <= LINES;
  if (files.length > FILES || !files.every(fits)) return words("check.sources");
  return "";
}
