// The moments of a session: its steps, and the links that lead to them.

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
