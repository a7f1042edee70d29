// The moments of a session: its steps, the links that lead to them, and what the kernel
// held at each.

import { words } from "./language.js";
import { callText, actText } from "./state.js";

/** stepsOf returns after how many events of a log each step is over. A call that returns
 * before anything else happens is one step, and that time passes is none. */
export function stepsOf(log) {
  const steps = [];
  log.forEach((e, i) => {
    const next = log[i + 1];
    const goesOn = e.type === "call" && !e.event.left && next?.type === "call" &&
      next.server === e.server && next.event.call === e.event.call;
    if (e.type !== "now" && !goesOn) steps.push(i + 1);
  });
  return steps.length > 0 ? steps : [log.length];
}

/** linkTo is the fragment that names a moment: #session=one-waits&step=57. */
export const linkTo = (session, step) =>
  `#${session ? `session=${encodeURIComponent(session)}&` : ""}step=${step}`;

/** linked is the moment that a fragment names: {session, step}, or null. */
export function linked(fragment) {
  const named = new URLSearchParams(fragment.slice(1));
  const step = Number(named.get("step"));
  if (!named.has("step") || !Number.isSafeInteger(step) || step < 0) return null;
  return { session: named.get("session") ?? "", step };
}

/** describe says what an event of a log is; model has it applied already. */
export function describe(e, model) {
  const server = model.servers.get(e.server);
  const name = model.labelOf(server);
  switch (e.type) {
    case "call": {
      const call = e.event.left ? server?.last : server?.open.get(e.event.call);
      const client = model.nameOf(e.event.peer);
      return words(client ? "step.call-for" : "step.call", { server: name, client, call: callText(call ?? e.event, e.event.at) });
    }
    case "act": return actText(e);
    case "client": return words("step.client", { client: e.client, server: name, state: { key: `state.${e.state}` } });
    case "kernel": return words("step.kernel", { server: name,
      conns: { key: "conns", args: { n: e.listener?.queue ?? 0 } },
      bytes: { key: "bytes", args: { n: (e.conns ?? []).reduce((sum, c) => sum + c.unread, 0) } } });
    case "server": return words("step.server", { server: e.lesson ?? name, state: { key: `state.${e.state}` } });
    case "scenario": return words("step.race", { state: { key: `state.${e.state}` } });
    case "missed": return words("step.missed", { server: name, n: e.calls });
    default: return e.type;
  }
}

/** kernelThen is what the kernel held after the last event: what it reported when it was
 * asked, changed by the calls that have returned since. */
export function kernelThen(server) {
  if (!server.kernel || server.since.length === 0) return server.kernel;
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
