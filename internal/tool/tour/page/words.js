// The state of servers, calls and clients, in words.

import { duration, plural, visible } from "./dom.js";
import { inQueue, waitsForMany } from "./model.js";

/** A call younger than this is not called blocked: it may be over at once. */
const SETTLED = 40e6; // ns

/** badges says where a server stands: one entry for each thread that is in a call. */
export function badges(server, now, model) {
  if (server.state === "ended") return [{ state: "ended", text: "ended" }];
  if (server.state === "failed") return [{ state: "ended", text: `failed: ${server.error}` }];
  if (server.state === "starting") return [{ state: "waiting", text: "starting" }];
  if (server.untraced && server.open.size === 0) return [untraced(server)];
  if (server.frozen) return [{ state: "pause", text: "frozen" }];
  const spins = server.kernel?.verdicts?.some((v) => v.kind === "spins");
  if (spins) return [{ state: "blocked", text: "spins" }];
  const standing = [...server.open.values()].filter((c) => now - c.start > SETTLED);
  const entered = model.still ? [...server.open.values()].at(-1) : null;
  if (standing.length === 0 && entered) {
    return [{ state: waitsForMany(entered) ? "waiting" : "running", text: `in ${entered.name}` }];
  }
  if (standing.length === 0) return [{ state: "running", text: "running" }];
  // Those that serve a client first: they are what others wait for.
  const idle = (call) => (call.name === "accept4" ? 1 : 0);
  return standing.sort((a, b) => idle(a) - idle(b) || a.call - b.call).map((call) => ({
    state: waitsForMany(call) || call.name === "nanosleep" || isIdle(call, server) ? "waiting" : "blocked",
    text: `${waitsForMany(call) ? "waiting" : call.name === "nanosleep" ? "sleeping" : "blocked"} in ` +
      `${call.name}${inRuntime(call) ? " of Go's runtime" : ""}, ${duration(now - call.start)}`,
    client: model.nameOf(call.peer),
    call,
  }));
}

/** isIdle says whether a call waits for a client while no client waits for the server. */
const isIdle = (call, server) => call.name.startsWith("accept") && !server.kernel?.listener?.queue;

/** inRuntime says whether the goroutines of a program wait there together, parked by the
 * Go runtime: the call is on no line of the program's own. */
const inRuntime = (call) => waitsForMany(call) && !call.file;

/** untraced is the call of a server whose calls are not traced: the one in which it
 * was blocked when the kernel was asked last. */
function untraced(server) {
  if (server.parked) return { state: "waiting", text: "parked by the Go runtime, calls not traced" };
  const name = server.kernel?.stands?.call;
  if (!name) return { state: "running", text: "running, calls not traced" };
  return waitsForMany({ name })
    ? { state: "waiting", text: `waiting in ${name}` } : { state: "blocked", text: `blocked in ${name}` };
}

/** callText is a call as a trace prints it. */
export function callText(call, now) {
  const head = `${call.name}(${call.args})`;
  if (!call.end) return `${head} … ${duration(now - call.start)} so far`;
  const result = call.err ? `-1 ${call.err}` : call.result;
  const ready = call.ready?.length
    ? ` [${call.ready.map((r) => `${r.fd} ${r.events}`).join(", ")}]` : "";
  const blocked = call.blocked ? ` (blocked ${duration(call.took)})` : "";
  return `${head} = ${result}${ready}${call.data ? ` ${call.data}` : ""}${blocked}`;
}

/** actText says what a client does. An old recording does not have the sentence. */
export const actText = ({ act, text }) => text ?? `${act.client}: ${act.do}`;

const short = (text, most) => (text.length > most ? `${text.slice(0, most)}…` : text);

/** connectionOf is what the kernel says of a client at a server. */
export function connectionOf(server, client) {
  const event = client.at.get(server.id);
  return (server.kernel?.conns ?? []).find((c) =>
    event?.peer ? c.peer === event.peer : c.client === client.name);
}

/** reaction says what has become of a client at a server: a sign and words. */
export function reaction(server, client, model) {
  const event = client.at.get(server.id);
  const conn = connectionOf(server, client);
  if (!event && !client.outside) {
    return { sign: "empty", kind: "none", text: client.connected ? "not connected here" : "not connected" };
  }
  const state = event?.state ?? (conn ? "connected" : "closed");
  switch (state) {
    case "connecting":
      return { sign: "waiting", kind: "wait", text: "connecting: no answer to its SYN yet" };
    case "refused": return { sign: "ended", kind: "bad", text: "refused: no server listens" };
    case "reset": return { sign: "ended", kind: "bad", text: event.note || "reset" };
    case "answered":
      return { sign: "done", kind: "good", text: `answered: ${firstLine(event.got)}` +
        (conn?.accepted && conn.state.startsWith("FIN_WAIT") ? "; the server waits for the client to close" : "") };
    case "closed":
      return { sign: event?.got ? "done" : "ended", kind: event?.got ? "good" : "none",
        text: event?.got ? `answered: ${firstLine(event.got)}, closed` : event?.note || "closed" };
    default: break; // connected, waiting
  }
  if (conn && inQueue(conn)) {
    return { sign: "blocked", kind: "stuck",
      text: `in the accept queue${conn.unread ? `, with ${plural(conn.unread, "byte")}` : ""}` };
  }
  if (conn?.unread) {
    return { sign: "blocked", kind: "stuck", text: `${plural(conn.unread, "byte")} not read yet` };
  }
  const sent = event?.sent ?? 0;
  const has = sent ? `read ${plural(sent, "byte")}, waits for more` : "accepted, waits for a request";
  return { sign: "waiting", kind: "wait", text: has };
}

const firstLine = (text) => visible(short((text ?? "").split(/\r?\n/)[0], 40)) || "end of file";

/** stuck says what a picture shows that a newcomer might miss; "" if nothing. The program
 * judges; a recording of before that has no verdicts. */
export const stuck = (server) => (server.state === "listening"
  ? (server.kernel?.verdicts ?? []).map((v) => v.text).join(" ") : "");
