// Why a wait for many descriptors has returned. What is returned here is {key, args} of
// texts: a moment is kept, and the language may change.

const past = { connect: "connected", "half-close": "ended", close: "closed", reset: "reset", flood: "floods" };

/** did is what a client has done, as whyWoke says it; null for an act that no server sees. */
export function did(act) {
  if (act.do === "send") return { key: "did.sent", args: { n: act.bytes?.length ?? 0 } };
  return past[act.do] ? { key: `did.${past[act.do]}` } : null;
}

/** whyWoke lists why a wait returned: "because …" goes before it. It knows the events up
 * to then, and notes in server.reported what has been reported. */
export function whyWoke(wait, server, model) {
  if (wait.err === "EINTR") return [{ key: "why.signal" }];
  if (wait.err) return [{ key: "why.failed" }];
  if (!wait.ready?.length) return wait.result === 0 ? [{ key: "why.time" }] : [];
  return wait.ready.map((r) => reason(r, server, model));
}

function reason(ready, server, model) {
  if (!ready.peer) {
    const who = [...server.arrivals];
    return who.length === 0 ? { key: "why.queued" } : { key: "why.arrived", args: { n: who.length, who } };
  }
  const who = model.nameOf(ready.peer) || { key: "why.client" };
  if (/EPOLLERR/.test(ready.events)) return { key: "why.did", args: { who, did: { key: "did.reset" } } };
  if (!/EPOLLIN|HUP/.test(ready.events)) return { key: "why.room", args: { who } };
  const last = model.clients.get(who)?.did;
  if (!last) return { key: "why.something", args: { who } };
  const again = server.reported.get(ready.peer) === last;
  server.reported.set(ready.peer, last);
  return { key: again ? "why.did-before" : "why.did", args: { who, did: last } };
}
