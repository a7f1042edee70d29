// Why a wait for many descriptors has returned.

const past = {
  connect: () => "has connected", "half-close": () => "has ended its side", close: () => "has closed",
  reset: () => "has reset the connection", flood: () => "sends again and again",
  send: (act) => `has sent ${act.bytes?.length === 1 ? "a byte" : `${act.bytes?.length ?? 0} bytes`}`,
};

/** did is what a client has done, as whyWoke says it; null for an act that no server sees. */
export const did = (act) => past[act.do]?.(act) ?? null;

/** whyWoke says in a sentence's end why a wait returned: "because …" goes before it. It
 * knows the events up to then, and notes in server.reported what has been reported. */
export function whyWoke(wait, server, model) {
  if (wait.err === "EINTR") return "a signal interrupted it";
  if (wait.err) return "it failed";
  if (!wait.ready?.length) return wait.result === 0 ? "its time ran out" : "";
  return wait.ready.map((r) => reason(r, server, model)).join("; ");
}

function reason(ready, server, model) {
  if (!ready.peer) {
    const who = [...server.arrivals];
    if (who.length === 0) return "a connection is in the accept queue";
    return `${who.join(", ")} ${who.length === 1 ? "is" : "are"} in the accept queue`;
  }
  const name = model.nameOf(ready.peer) || "a client";
  if (/EPOLLERR/.test(ready.events)) return `${name} has reset the connection`;
  if (!/EPOLLIN|HUP/.test(ready.events)) return `the send buffer for ${name} has room`;
  const last = model.clients.get(name)?.did;
  if (!last) return `bytes or the end of ${name} have arrived`;
  const again = server.reported.get(ready.peer) === last;
  server.reported.set(ready.peer, last);
  return again ? `${name} ${last.text}, and it is reported again until the server has read it` : `${name} ${last.text}`;
}
