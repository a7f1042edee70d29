// What is known of the servers and the clients. Events go in; the views look at
// what has come of them. Nothing here touches the document.

import { did, whyWoke } from "./why.js";

/** How many calls of one server are kept. */
export const KEPT_CALLS = 20000;
const KEPT_NOTES = 2000;
const KEPT_SINCE = 1000; // calls since the kernel was asked

/** A Ring keeps the last so many. */
export class Ring {
  constructor(most) {
    this.most = most;
    this.items = [];
    this.pushed = 0; // ever
  }

  push(item) {
    this.items[this.pushed % this.most] = item;
    this.pushed++;
  }

  get length() {
    return this.items.length;
  }

  /** at is the i-th of those that are kept, the oldest first. */
  at(i) {
    return this.items[(this.pushed - this.items.length + i) % this.most];
  }
}

/** HELD is what a reader can do to a server: how the log says that it begins, and ends. */
const HELD = { frozen: ["frozen", "continues"], rationed: ["rationed", "given-back"] };

/** A Server is one column: what it is, and what it does. */
class Server {
  constructor(id) {
    this.id = id;
    this.lesson = "";
    this.number = 0; // of those that run this lesson, from 1
    this.title = "";
    this.addr = "";
    this.files = [];
    this.state = "listening";
    this.error = "";
    this.frozen = false; // it makes no call
    this.rationed = false; // it gets no new descriptor
    this.note = ""; // why its calls are not shown
    this.open = new Map(); // the calls that have not returned, by their number: call.call
    this.calls = new Ring(KEPT_CALLS);
    this.last = null; // the call that was left last
    this.lastWait = null; // the epoll_wait that was left last
    this.kernel = null;
    this.since = []; // the calls that have returned since the kernel was asked
    this.arrivals = new Set(); // clients that have connected, and are not accepted yet
    this.reported = new Map(); // peer -> what its client had done when a wait reported it last
    this.missed = 0;
    this.version = 0; // changes with all of this
    this.listener = null; // its descriptor, once a call has shown it
    this.lanes = [{ key: "" }];
    this.several = false; // calls of it overlap: there are threads
  }

  /** enter and leave take the two events of a call, with the names that the trace gives
   * their fields. Only start, end and lane are the page's own. */
  enter(e) {
    if (this.open.size > 0) this.several = true;
    if (e.name === "listen") this.listener = e.fd;
    const call = { ...e, start: e.at, end: 0 };
    call.lane = this.laneOf(call);
    this.open.set(call.call, call);
  }

  leave(e) {
    let call = this.open.get(e.call);
    if (call) {
      this.open.delete(e.call);
    } else {
      call = { ...e, start: e.at - (e.took ?? 0) }; // its beginning was missed
      call.lane = this.laneOf(call);
    }
    Object.assign(call, e, { end: e.at });
    this.calls.push(call);
    if (this.since.length < KEPT_SINCE) this.since.push(call);
    this.last = call;
    if (call.name.startsWith("epoll_") && call.name !== "epoll_ctl" && call.name !== "epoll_create1") {
      this.lastWait = call;
    }
    if (call.name === "close") {
      const lane = this.lanes[call.lane];
      if (lane.key && lane.key === call.peer) lane.key = ""; // free for the next connection
    }
    return call;
  }

  /** laneOf is the row of the timeline: one for a server that does one thing at a
   * time; else one for the listener and one per connection, used again. */
  laneOf(call) {
    if (!this.several || call.name === "accept4" || !call.peer) return 0;
    const mine = this.lanes.findIndex((l) => l.key === call.peer);
    if (mine >= 0) return mine;
    const free = this.lanes.findIndex((l, i) => i > 0 && l.key === "");
    if (free > 0) {
      this.lanes[free].key = call.peer;
      return free;
    }
    if (this.lanes.length < 8) {
      this.lanes.push({ key: call.peer });
      return this.lanes.length - 1;
    }
    return 7; // more than can be shown share the last one
  }

  /** missing: that many calls were left out, and these are open now. */
  missing(calls, open) {
    this.missed += calls;
    this.open.clear();
    for (const e of open ?? []) this.enter(e);
  }
}

/** Waits for events of many, and not for one client. */
export const waitsForMany = (call) => call.name.startsWith("epoll_") || call.name === "poll" ||
  call.name === "ppoll" || call.name === "select" || call.name === "pselect6";

/** inQueue: the server has not accepted it, and has not closed it either (then
 * it has no descriptor any more, and waits for the client's FIN). */
export const inQueue = (conn) => !conn.accepted && (conn.state === "ESTABLISHED" || conn.state === "CLOSE_WAIT");

/** kernelThen is what the kernel held after the last event. Of a moment in the past, it is
 * what the kernel reported when it was asked, changed by the calls that have returned since. */
export function kernelThen(server, model) {
  if (!model.still || !server.kernel || server.since.length === 0) return server.kernel;
  const k = structuredClone(server.kernel);
  for (const call of server.since) if (!call.err) change(k, call);
  return k;
}

function change(k, call) {
  const conn = (k.conns ?? []).find((c) => c.peer === call.peer);
  if (call.name.startsWith("accept") && conn && !conn.accepted) {
    Object.assign(conn, { accepted: true, fd: call.result });
    if (k.listener) k.listener.queue = Math.max(0, k.listener.queue - 1);
  } else if (/^(read|recv)/.test(call.name) && conn) {
    conn.unread = Math.max(0, conn.unread - call.result);
  } else if (call.name === "close" && conn) {
    k.conns = k.conns.filter((c) => c !== conn);
    k.interest = k.interest?.filter((i) => i.fd !== call.fd) ?? null;
  } else if (call.name === "epoll_ctl" && k.interest) {
    const [, what, fd, events] = call.args.split(", ");
    const entry = k.interest.find((i) => i.fd === Number(fd));
    if (what === "DEL") k.interest = k.interest.filter((i) => i !== entry);
    else if (entry) entry.events = events;
    else if (conn) k.interest.push({ fd: Number(fd), events, client: conn.client, what: "connection" });
  }
}

/** isOutside: a client that is not the session's has such a name. */
const isOutside = (name) => /^out\d+$/.test(name);

/** The Model is all of it. */
export class Model {
  constructor() {
    this.reset();
  }

  reset() {
    this.servers = new Map();
    this.clients = new Map(); // name -> Client
    this.numbers = new Map(); // lesson -> how many servers it has had
    this.peers = new Map(); // "127.0.0.1:4711" -> name of the client
    this.notes = new Ring(KEPT_NOTES); // acts and what was missed, for the log
    this.scenario = null;
    this.time = 0; // of the newest event
    this.first = 0; // of the first event
    this.version = (this.version ?? 0) + 1;
    this.lastAct = null;
    this.hidden = new Set(); // clients whose cards were removed
    this.hues = 0;
    this.still = false; // it shows one moment: all that is drawn is a function of the events
    this.generation = (this.generation ?? 0) + 1; // views forget what they remember
  }

  /** apply takes a batch of events, in their order. */
  apply(events) {
    for (const e of events) {
      if (e.at > this.time) this.time = e.at;
      if (!this.first && e.at) this.first = e.at;
      this.one(e);
    }
    this.version++;
  }

  one(e) {
    const server = e.server ? this.servers.get(e.server) : null;
    switch (e.type) {
      case "server": return this.server(e);
      case "call":
        if (!server) return undefined;
        server.version++;
        if (e.event.left) this.left(server, server.leave(e.event));
        else server.enter(e.event);
        return undefined;
      case "kernel":
        if (server) this.kernel(server, e);
        return undefined;
      case "client": return this.client(e);
      case "act":
        this.lastAct = e;
        if (e.act.do === "connect") this.hidden.delete(e.act.client);
        if (!this.hidden.has(e.act.client)) this.ensureClient(e.act.client).acted(e.act);
        if (e.act.do === "connect") for (const s of this.servers.values()) s.arrivals.add(e.act.client);
        this.notes.push({ at: e.at, act: e.act, text: e.text, form: e.form, args: e.args, by: e.by });
        return undefined;
      case "scenario":
        this.scenario = e.state === "stopped" ? null : e;
        return undefined;
      case "missed":
        if (!server) return undefined;
        server.missing(e.calls, e.open);
        server.version++;
        this.notes.push({ at: e.at, missed: e.calls, server: e.server });
        return undefined;
      default: return undefined; // "now", and what a newer program may say
    }
  }

  /** left notes what a call that has returned shows about the clients. */
  left(server, call) {
    if (waitsForMany(call) && call.name !== "epoll_ctl") call.why = whyWoke(call, server, this);
    if (call.name.startsWith("accept") && call.peer) server.arrivals.delete(this.nameOf(call.peer));
  }

  server(e) {
    if (e.state === "removed") {
      this.servers.delete(e.server);
      for (const client of this.clients.values()) client.at.delete(e.server);
      return;
    }
    let server = this.servers.get(e.server);
    if (!server) {
      server = new Server(e.server);
      this.servers.set(e.server, server);
    }
    server.lesson = e.lesson ?? server.lesson;
    if (!server.number) {
      server.number = (this.numbers.get(server.lesson) ?? 0) + 1;
      this.numbers.set(server.lesson, server.number);
    }
    server.title = e.title ?? server.title;
    server.addr = e.addr ?? server.addr;
    server.files = e.files ?? server.files;
    server.state = e.state ?? server.state;
    server.error = e.said ?? e.error ?? "";
    server.untraced = e.untraced ?? server.untraced;
    server.note = e.noted ?? e.note ?? "";
    for (const [how, [begins, ends]] of Object.entries(HELD)) {
      const on = Boolean(e[how]);
      if (on !== server[how]) this.notes.push({ at: e.at, server: server.id, held: on ? begins : ends, label: this.labelOf(server) });
      server[how] = on;
    }
    server.parked = e.parked ?? server.parked;
    if (server.state !== "listening") server.open.clear();
    if (server.state !== "listening") server.arrivals.clear();
    server.version++;
  }

  kernel(server, e) {
    server.kernel = e;
    server.since = [];
    server.version++;
    for (const c of e.conns ?? []) {
      this.peers.set(c.peer, c.client);
      if (isOutside(c.client)) this.ensureClient(c.client).outside = c.peer;
    }
    this.forgetPeers();
  }

  /** forgetPeers bounds what is remembered of those who have gone. */
  forgetPeers() {
    while (this.peers.size > 5000) {
      const [peer, name] = this.peers.entries().next().value;
      this.peers.delete(peer);
      if (isOutside(name)) this.clients.delete(name);
    }
    if (this.clients.size < 60) return;
    const present = new Set();
    for (const s of this.servers.values()) {
      for (const c of s.kernel?.conns ?? []) present.add(c.client);
    }
    for (const client of this.clients.values()) {
      if (client.outside && !present.has(client.name)) this.clients.delete(client.name);
    }
  }

  client(e) {
    if (this.hidden.has(e.client)) return;
    const client = this.ensureClient(e.client);
    client.at.set(e.server, e);
    if (e.peer) this.peers.set(e.peer, e.client);
    client.version++;
  }

  ensureClient(name) {
    let client = this.clients.get(name);
    if (!client) {
      client = new Client(name, isOutside(name) ? 4 + (Number(name.slice(3)) % 4) : this.hues++ % 8);
      this.clients.set(name, client);
    }
    return client;
  }

  /** hide takes a client's card away, until it connects again. */
  hide(name) {
    this.hidden.add(name);
    this.clients.delete(name);
    this.version++;
  }

  /** labelOf names a server; of several that run the same program, each with its number. */
  labelOf(server) {
    if (!server) return "?";
    const name = server.lesson.replace(/^exercise\//, "");
    const alike = [...this.servers.values()].filter((s) => s.lesson === server.lesson);
    return alike.length > 1 || server.number > 1 ? `${name} ${server.number}` : name;
  }

  /** nameOf is the client at the other end, "" when it is not known. */
  nameOf(peer) {
    return (peer && this.peers.get(peer)) || "";
  }

  hueOf(name) {
    return this.clients.get(name)?.hue ?? 8;
  }
}

/** requests are what the buttons send: whole, half and long. The program says which. */
export const requests = { whole: "", half: "", long: "" };

/** A Client is a card: one actor, with a connection to each server. */
class Client {
  constructor(name, hue) {
    this.name = name;
    this.hue = hue;
    this.at = new Map(); // server -> the newest client event
    this.sent = "";
    this.outside = "";
    this.version = 0;
    this.connected = false;
    this.halfClosed = false;
    this.did = null; // what it has done last, for whyWoke
  }

  acted(act) {
    this.version++;
    this.did = did(act) ?? this.did;
    switch (act.do) {
      case "connect":
        this.sent = "";
        this.connected = true;
        this.halfClosed = false;
        break;
      case "send": this.sent = (this.sent + (act.bytes ?? "")).slice(-4000); break;
      case "half-close": this.halfClosed = true; break;
      case "close":
      case "reset": this.connected = false; break;
    }
  }
}
