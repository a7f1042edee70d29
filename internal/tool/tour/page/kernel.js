// The kernel's side of one server: queues, buffers, the interest list.

import { chip, h } from "./dom.js";
import { words } from "./language.js";
import { inQueue, kernelThen, waitsForMany } from "./model.js";
import { because } from "./state.js";

const SHOWN = 8; // connections

/** drawKernel says what the kernel knows of a server. */
export function drawKernel(root, server, model) {
  const k = kernelThen(server, model);
  if (!k) {
    root.replaceChildren(h("p", { class: "quiet-text" }, words("kernel.nothing")));
    return;
  }
  root.replaceChildren(
    queue(k, model),
    ...connections(k, model),
    ...interest(server, k, model),
    k.threads > 1 ? h("p", { class: "fact" }, h("b", {}, words("kernel.threads")), ` ${k.threads}`) : "",
  );
}

function label(conn, model) {
  return chip(conn.client, model.hueOf(conn.client), conn.peer);
}

function queue(k, model) {
  const waiting = (k.conns ?? []).filter(inQueue);
  const listener = k.listener ?? { queue: 0, backlog: 0 };
  return h("p", { class: listener.queue > 0 ? "fact queue filled" : "fact queue" },
    h("b", {}, words("kernel.queue")), ` ${words("kernel.queue-of", listener)} `,
    ...waiting.slice(0, SHOWN).map((c) => label(c, model)));
}

function connections(k, model) {
  const conns = (k.conns ?? []).filter((c) => c.accepted || inQueue(c));
  if (conns.length === 0) return [h("p", { class: "fact" }, h("b", {}, words("kernel.conns")), " ", words("kernel.none"))];
  const cell = (n) => h("td", { class: n > 0 ? "number-cell some" : "number-cell" }, String(n));
  conns.sort((a, b) => (a.client < b.client ? -1 : 1));
  const rows = conns.slice(0, SHOWN).map((c) => h("tr", { class: c.accepted ? null : "queued" },
    h("th", { scope: "row" }, label(c, model)),
    h("td", { class: "number-cell" }, c.fd >= 0 && c.accepted ? String(c.fd) : "–"),
    cell(c.unread), cell(c.unsent), h("td", { class: "tcp" }, c.state)));
  const more = conns.length - SHOWN;
  return [
    h("table", { class: "conns" },
      h("caption", { class: "visually-hidden" }, words("kernel.conns")),
      h("thead", {}, h("tr", {}, ...[
        "conn", "fd", "unread", "unsent", "state",
      ].map((name) => h("th", { scope: "col", title: words(`kernel.${name}.title`) }, words(`kernel.${name}`))))),
      h("tbody", {}, ...rows)),
    more > 0 ? h("p", { class: "quiet-text" }, words("kernel.more-conns", { n: more })) : "",
  ];
}

function interest(server, k, model) {
  if (!k.interest) return [];
  const entries = [...k.interest].sort((a, b) => a.fd - b.fd).slice(0, SHOWN + 1).map((i) => {
    return h("li", {}, h("span", { class: "fd" }, String(i.fd)), " ",
      i.client ? chip(i.client, model.hueOf(i.client)) : h("span", {}, i.what && words(`kernel.${i.what}`)), " ",
      h("code", {}, i.events || words("kernel.none")));
  });
  const more = k.interest.length - entries.length;
  const standing = [...server.open.values()].some(waitsForMany);
  const wait = server.lastWait;
  return [
    h("div", { class: "fact interest" }, h("b", {}, words("kernel.interest")),
      h("ul", {}, ...entries), more > 0 ? h("span", { class: "quiet-text" }, words("more", { n: more })) : ""),
    server.untraced && !wait ? "" : h("p", { class: "fact" }, h("b", {}, "epoll_wait"), " ",
      words(`kernel.${wait ? (standing ? "waits-again" : "returned") : standing ? "waits" : "nothing-yet"}`), " ",
      wait ? lastReady(wait, model) : "", because(wait) ? h("span", { class: "why" }, ` ${because(wait)}`) : ""),
  ];
}

function lastReady(wait, model) {
  if (wait.err) return wait.err;
  if (!wait.ready?.length) return words("kernel.timed-out");
  const parts = wait.ready.slice(0, 4).map((r) => {
    const name = model.nameOf(r.peer);
    return h("span", { class: "ready" }, `${r.fd} `, name ? chip(name, model.hueOf(name)) : "", ` ${r.events} `);
  });
  return h("span", {}, ...parts, wait.ready.length > 4 ? `+${wait.ready.length - 4}` : "");
}
