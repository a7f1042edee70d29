// The kernel's side of one server: queues, buffers, the interest list.

import { chip, h, plural } from "./dom.js";
import { inQueue, waitsForMany } from "./model.js";
import { kernelThen } from "./moments.js";

const SHOWN = 8; // connections

/** drawKernel says what the kernel knows of a server. */
export function drawKernel(root, server, model) {
  const k = model.still ? kernelThen(server) : server.kernel;
  if (!k) {
    root.replaceChildren(h("p", { class: "quiet-text" }, "The kernel has reported nothing yet."));
    return;
  }
  root.replaceChildren(
    queue(k, model),
    ...connections(k, model),
    ...interest(server, k, model),
    k.threads > 1 ? h("p", { class: "fact" }, h("b", {}, "threads"), ` ${k.threads}`) : "",
  );
}

function label(conn, model) {
  return chip(conn.client, model.hueOf(conn.client), conn.peer);
}

function queue(k, model) {
  const waiting = (k.conns ?? []).filter(inQueue);
  const listener = k.listener ?? { queue: 0, backlog: 0 };
  return h("p", { class: listener.queue > 0 ? "fact queue filled" : "fact queue" },
    h("b", {}, "accept queue"), ` ${listener.queue} of ${listener.backlog} `,
    ...waiting.slice(0, SHOWN).map((c) => label(c, model)));
}

function connections(k, model) {
  const conns = (k.conns ?? []).filter((c) => c.accepted || inQueue(c));
  if (conns.length === 0) return [h("p", { class: "fact" }, h("b", {}, "connections"), " none")];
  const cell = (n) => h("td", { class: n > 0 ? "number-cell some" : "number-cell" }, String(n));
  conns.sort((a, b) => (a.client < b.client ? -1 : 1));
  const rows = conns.slice(0, SHOWN).map((c) => h("tr", { class: c.accepted ? null : "queued" },
    h("th", { scope: "row" }, label(c, model)),
    h("td", { class: "number-cell" }, c.fd >= 0 && c.accepted ? String(c.fd) : "–"),
    cell(c.unread), cell(c.unsent), h("td", { class: "tcp" }, c.state)));
  const more = conns.length - SHOWN;
  return [
    h("table", { class: "conns" },
      h("caption", { class: "visually-hidden" }, "Connections"),
      h("thead", {}, h("tr", {}, ...[
        ["conn", "connection"], ["fd", "descriptor"], ["unread", "bytes in the receive buffer"],
        ["unsent", "bytes in the send buffer"], ["state", "TCP state"],
      ].map(([name, title]) => h("th", { scope: "col", title }, name)))),
      h("tbody", {}, ...rows)),
    more > 0 ? h("p", { class: "quiet-text" }, `and ${plural(more, "more connection", "more connections")}`) : "",
  ];
}

function interest(server, k, model) {
  if (!k.interest) return [];
  const entries = [...k.interest].sort((a, b) => a.fd - b.fd).slice(0, SHOWN + 1).map((i) => {
    return h("li", {}, h("span", { class: "fd" }, String(i.fd)), " ",
      i.client ? chip(i.client, model.hueOf(i.client)) : h("span", {}, i.what), " ",
      h("code", {}, i.events || "none"));
  });
  const more = k.interest.length - entries.length;
  const standing = [...server.open.values()].some(waitsForMany);
  const wait = server.lastWait;
  return [
    h("div", { class: "fact interest" }, h("b", {}, "interest list"),
      h("ul", {}, ...entries), more > 0 ? h("span", { class: "quiet-text" }, `and ${more} more`) : ""),
    server.untraced && !wait ? "" : h("p", { class: "fact" }, h("b", {}, "epoll_wait"), " ",
      standing ? `is waiting; ${wait ? "last time it returned" : "it has returned"} ` : "returned ",
      lastReady(server, model), wait?.why ? h("span", { class: "why" }, ` because ${wait.why}`) : ""),
  ];
}

function lastReady(server, model) {
  const wait = server.lastWait;
  if (!wait) return "nothing yet";
  if (wait.err) return wait.err;
  if (!wait.ready?.length) return "0: it timed out";
  const parts = wait.ready.slice(0, 4).map((r) => {
    const name = model.nameOf(r.peer);
    return h("span", { class: "ready" }, `${r.fd} `, name ? chip(name, model.hueOf(name)) : "", ` ${r.events} `);
  });
  return h("span", {}, ...parts, wait.ready.length > 4 ? `+${wait.ready.length - 4}` : "");
}
