// The state of servers, calls and clients, in words.

import { duration, visible } from "./dom.js";
import { said, words } from "./language.js";
import { inQueue, kernelThen, waitsForMany } from "./model.js";

/** A call younger than this is not called blocked: it may be over at once. */
const SETTLED = 40e6; // ns

/** badges says where a server stands: one entry for each thread that is in a call. */
export function badges(server, now, model) {
  if (server.state === "ended") return [{ state: "ended", text: words("badge.ended") }];
  if (server.state === "failed") return [{ state: "ended", text: words("badge.failed", { error: said(server.error) }) }];
  if (server.state === "starting") return [{ state: "waiting", text: words("badge.starting") }];
  if (server.untraced && server.open.size === 0) return [untraced(server)];
  if (server.frozen) return [{ state: "pause", text: words("badge.frozen") }];
  const spins = server.kernel?.verdicts?.some((v) => v.kind === "spins");
  if (spins) return [{ state: "blocked", text: words("badge.spins") }];
  const standing = [...server.open.values()].filter((c) => now - c.start > SETTLED);
  const entered = model.still ? [...server.open.values()].at(-1) : null;
  if (standing.length === 0 && entered) {
    return [{ state: waitsForMany(entered) ? "waiting" : "running", text: words("badge.in", { call: entered.name }) }];
  }
  if (standing.length === 0) return [{ state: "running", text: words("badge.running") }];
  // Those that serve a client first: they are what others wait for.
  const idle = (call) => (call.name === "accept4" ? 1 : 0);
  return standing.sort((a, b) => idle(a) - idle(b) || a.call - b.call).map((call) => {
    const how = waitsForMany(call) ? "waiting" : call.name === "nanosleep" ? "sleeping" : "blocked";
    const where = inRuntime(call) ? { key: "badge.runtime", args: { call: call.name } } : call.name;
    const short = words(`badge.${how}`, { call: where });
    return {
      state: how === "blocked" && !isIdle(call, server) ? "blocked" : "waiting",
      short,
      text: words("badge.since", { what: short, time: duration(now - call.start) }),
      client: model.nameOf(call.peer),
      call,
    };
  });
}

/** isIdle says whether a call waits for a client while no client waits for the server. */
const isIdle = (call, server) => call.name.startsWith("accept") && !server.kernel?.listener?.queue;

/** inRuntime says whether the goroutines of a program wait there together, parked by the
 * Go runtime: the call is on no line of the program's own. */
const inRuntime = (call) => waitsForMany(call) && !call.file;

/** untraced is the call of a server whose calls are not traced: the one in which it
 * was blocked when the kernel was asked last. */
function untraced(server) {
  if (server.parked) return { state: "waiting", text: words("badge.parked") };
  const name = server.kernel?.stands?.call;
  if (!name) return { state: "running", text: words("badge.untraced") };
  return waitsForMany({ name })
    ? { state: "waiting", text: words("badge.waiting", { call: name }) }
    : { state: "blocked", text: words("badge.blocked", { call: name }) };
}

/** callText is a call as a trace prints it. */
export function callText(call, now) {
  const head = `${call.name}(${call.args})`;
  if (!call.end) return `${head} ${words("call.so-far", { time: duration(now - call.start) })}`;
  const result = call.err ? `-1 ${call.err}` : call.result;
  const ready = call.ready?.length
    ? ` [${call.ready.map((r) => `${r.fd} ${r.events}`).join(", ")}]` : "";
  const blocked = call.blocked ? ` ${words("call.blocked", { time: duration(call.took) })}` : "";
  return `${head} = ${result}${ready}${call.data ? ` ${call.data}` : ""}${blocked}`;
}

/** because says why a wait returned, "" if that is not known. */
export const because = (call) => (call?.why?.length
  ? words("because", { why: call.why.map((w) => words(w.key, w.args)).join(words("semicolon")) }) : "");

/** actText says what a client does. An old recording does not have the sentence. */
export const actText = ({ act, text, form, args }) => (text ? said({ text, form, args }) : `${act.client}: ${act.do}`);

const short = (text, most) => (text.length > most ? `${text.slice(0, most)}…` : text);

/** connectionOf is what the kernel says of a client at a server. */
export function connectionOf(server, client, model) {
  const event = client.at.get(server.id);
  return (kernelThen(server, model)?.conns ?? []).find((c) =>
    event?.peer ? c.peer === event.peer : c.client === client.name);
}

/** reaction says what has become of a client at a server: a sign and words. */
export function reaction(server, client, model) {
  const event = client.at.get(server.id);
  const conn = connectionOf(server, client, model);
  if (!event && !client.outside) {
    return { sign: "empty", kind: "none", text: words(client.connected ? "client.not-here" : "client.unconnected") };
  }
  const state = event?.state ?? (conn ? "connected" : "closed");
  const got = { line: firstLine(event?.got) };
  const bytes = (n) => ({ key: "bytes", args: { n } });
  switch (state) {
    case "connecting": return { sign: "waiting", kind: "wait", text: words("client.connecting") };
    case "refused": return { sign: "ended", kind: "bad", text: words("client.refused") };
    case "reset": return { sign: "ended", kind: "bad", text: event.note ? said(event.note) : words("client.reset") };
    case "answered": {
      const lingers = conn?.accepted && conn.state.startsWith("FIN_WAIT");
      return { sign: "done", kind: "good", text: words(lingers ? "client.lingers" : "client.answered", got) };
    }
    case "closed":
      if (event?.got) return { sign: "done", kind: "good", text: words("client.answered-closed", got) };
      return { sign: "ended", kind: "none", text: event?.note ? said(event.note) : words("client.closed") };
    default: break; // connected, waiting
  }
  if (conn && inQueue(conn)) {
    return { sign: "blocked", kind: "stuck", text: conn.unread
      ? words("client.queued-with", { bytes: bytes(conn.unread) }) : words("client.queued") };
  }
  if (conn?.unread) {
    return { sign: "blocked", kind: "stuck", text: words("client.unread", { bytes: bytes(conn.unread) }) };
  }
  const sent = event?.sent ?? 0;
  return { sign: "waiting", kind: "wait",
    text: sent ? words("client.read", { bytes: bytes(sent) }) : words("client.accepted") };
}

const firstLine = (text) => visible(short((text ?? "").split(/\r?\n/)[0], 40)) || words("client.end");

/** stuck says what a picture shows that a newcomer might miss; "" if nothing. The program
 * judges; a recording of before that has no verdicts. */
export const stuck = (server) => (server.state === "listening"
  ? (server.kernel?.verdicts ?? []).map(said).join(words("space")) : "");
