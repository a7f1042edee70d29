// The clients: a card each, what it can do, and what has become of it at every server.

import { byID, chip, h, icon, setAttribute, setText, visible } from "./dom.js";
import { words } from "./language.js";
import { requests } from "./model.js";
import { connectionOf, reaction } from "./state.js";

const OUTSIDERS = 6; // shown

class Card {
  constructor(view, client) {
    this.view = view;
    this.name = client.name;
    this.rows = new Map(); // server id -> row
    this.build(client);
  }

  build(client) {
    const act = (what, more) => () => this.view.act({ client: this.name, do: what, ...more?.() });
    const send = (bytes) => act("send", () => ({ bytes: bytes() }));
    const sent = () => this.view.model.clients.get(this.name)?.sent ?? "";
    const rest = () => (requests.whole.startsWith(sent()) && sent() !== requests.whole ? requests.whole.slice(sent().length) : "\r\n\r\n");
    this.text = h("input", { type: "text", autocomplete: "off", spellcheck: "false", value: "X-Mine: 1\\r\\n" });
    const own = () => unescape(this.text.value);
    const runs = {
      connect: act("connect", () => ({ reads: true })),
      half: send(() => requests.half),
      rest: send(rest),
      byte: send(() => rest()[0]),
      whole: send(() => requests.whole),
      long: send(() => requests.long),
      flood: act("flood", () => ({ bytes: "y\n".repeat(2048) })),
      halfClose: act("half-close"),
      close: act("close"),
      reset: act("reset"),
      own: send(own),
    };
    this.buttons = {};
    for (const [key, run] of Object.entries(runs)) {
      this.buttons[key] = h("button", {
        type: "button", "data-act": key, title: words(`act.${key}.title`),
        onclick: (event) => {
          // Not `disabled`: that would take the focus away from a keyboard.
          if (event.currentTarget.getAttribute("aria-disabled") !== "true") run();
        },
      }, words(`act.${key}`));
    }
    const b = this.buttons;
    const textID = `own-${this.name}`;
    this.text.id = textID;
    this.request = h("p", { class: "request" });
    this.reactions = h("ul", { class: "reactions", "aria-label": words("card.reactions", client) });
    this.element = h("article", { class: "card", "data-client": this.name, "aria-label": words("card.label", client) }, h("div", { class: "card-body" },
      h("header", {}, chip(client.name, client.hue), h("h3", {}, words("card", client)), this.request,
        this.view.readOnly ? null : h("button", { type: "button", class: "quiet", "aria-label": words("card.remove", client), title: words("card.remove.title"),
          onclick: () => this.view.remove(this.name) }, "✕")),
      this.view.readOnly ? null : h("div", { class: "acts" },
        b.connect, b.half, b.rest, b.whole,
        h("details", { class: "more" }, h("summary", {}, words("card.more")),
          h("div", { class: "acts" }, b.byte, b.long, b.flood, b.halfClose, b.close, b.reset),
          h("div", { class: "own" }, h("label", { for: textID }, words("card.own")), this.text, b.own))),
      this.reactions));
  }

  draw(client, model, now) {
    this.drawRequest(client.sent);
    if (!this.view.readOnly) this.drawButtons(client);
    for (const server of model.servers.values()) {
      let row = this.rows.get(server.id);
      if (!row) {
        row = h("li", { "data-server": server.id, "data-lesson": server.lesson },
          h("span", { class: "sign" }), h("b", {}), h("span", { class: "reaction" }));
        this.rows.set(server.id, row);
        this.reactions.append(row);
      }
      setText(row.children[1], model.labelOf(server));
      const { sign, kind, text } = reaction(server, client, model);
      if (row.dataset.sign !== sign) row.firstChild.replaceChildren(icon(sign));
      row.dataset.sign = sign;
      setAttribute(row, "data-kind", kind);
      setText(row.lastChild, text);
      const got = client.at.get(server.id)?.got;
      setAttribute(row, "title", got ? words("card.got", { got: visible(got) }) : null);
    }
    for (const [id, row] of this.rows) {
      if (model.servers.has(id)) continue;
      row.remove();
      this.rows.delete(id);
    }
  }

  /** drawRequest shows the request, and how much of it has been sent. */
  drawRequest(sent) {
    if (this.sentShown === sent) return;
    this.sentShown = sent;
    if (!requests.whole.startsWith(sent)) {
      const text = visible(sent);
      this.request.replaceChildren(h("span", { class: "sent" }, text.length > 40 ? `…${text.slice(-40)}` : text));
      return;
    }
    this.request.replaceChildren(
      h("span", { class: "sent" }, visible(sent)),
      h("span", { class: "unsent" }, visible(requests.whole.slice(sent.length))));
    this.request.setAttribute("aria-label", words("card.sent", { sent: sent.length, whole: requests.whole.length }));
  }

  drawButtons(client) {
    const whole = client.sent.endsWith("\r\n\r\n") || client.sent.endsWith("\n\n");
    const open = client.connected;
    const can = open && !client.halfClosed;
    const servers = this.view.model.servers;
    const everywhere = [...servers.values()].every((s) => client.at.has(s.id) || s.state !== "listening");
    const enabled = {
      connect: !open || !everywhere, half: can && client.sent === "", rest: can && client.sent !== "" && !whole,
      byte: can && !whole, whole: can && client.sent === "", long: can && client.sent === "", flood: can, own: can,
      halfClose: can, close: open, reset: open,
    };
    const next = !open ? "connect" : !can ? "" : client.sent === "" ? "half" : whole ? "" : "rest";
    for (const [key, button] of Object.entries(this.buttons)) {
      setAttribute(button, "aria-disabled", enabled[key] ? null : "true");
      button.classList.toggle("primary", key === next);
    }
    setText(this.buttons.connect, words(client.at.size > 0 && !open ? "act.connect-again" : "act.connect"));
  }
}

/** unescape makes bytes of what a reader can type: of each byte a character up to U+00FF,
 * as an act has them. Other characters are sent as UTF-8. */
function unescape(text) {
  const utf8 = (s) => String.fromCharCode(...new TextEncoder().encode(s));
  return text.replace(/\\(r|n|t|\\|x[0-9a-fA-F]{2})|[^\\]+/g, (all, c) => (c === undefined ? utf8(all)
    : { r: "\r", n: "\n", t: "\t", "\\": "\\" }[c] ?? String.fromCharCode(parseInt(c.slice(1), 16))));
}

/** Clients is all cards. */
export class Clients {
  /** act does an act; the stream reports what comes of it. */
  constructor(model, act, max) {
    this.model = model;
    this.act = act;
    this.max = max;
    this.root = byID("cards");
    this.cards = new Map();
    this.readOnly = false;
    this.generation = model.generation;
    this.outsiders = h("article", { class: "card outsiders", "data-words-aria-label": "outside.label", "aria-label": words("outside.label"), hidden: true });
    byID("add-client").addEventListener("click", () => this.add());
    byID("clear-clients").addEventListener("click", () => this.removeAll());
  }

  /** begin makes one card ready. */
  begin() {
    this.model.ensureClient("a");
  }

  add() {
    const names = "abcdefghijklmnopqrstuvwxyz".slice(0, this.max);
    const name = [...names].find((n) => !this.model.clients.has(n));
    if (!name) return;
    this.model.hidden.delete(name);
    this.model.ensureClient(name);
    this.draw(this.lastNow ?? 0);
    this.cards.get(name).buttons.connect.focus();
  }

  remove(name) {
    if (this.model.clients.get(name)?.connected) this.act({ client: name, do: "close" });
    this.model.hide(name);
    this.draw(this.lastNow ?? 0);
    byID("add-client").focus();
  }

  /** removeAll leaves one card, as at the beginning. */
  removeAll() {
    for (const name of [...this.cards.keys()]) this.remove(name);
    this.model.hidden.delete("a");
    this.begin();
    this.draw(this.lastNow ?? 0);
    this.cards.get("a").buttons.connect.focus();
  }

  clear() {
    for (const card of this.cards.values()) card.element.remove();
    this.cards.clear();
  }

  draw(now) {
    const model = this.model;
    this.lastNow = now;
    if (this.generation !== model.generation) {
      this.generation = model.generation;
      this.clear();
    }
    const mine = [...model.clients.values()].filter((c) => !c.outside).sort((a, b) => (a.name < b.name ? -1 : 1));
    for (const client of mine) {
      let card = this.cards.get(client.name);
      if (!card) {
        card = new Card(this, client);
        this.cards.set(client.name, card);
        const after = [...this.root.children].find((e) => e.dataset.client > client.name);
        this.root.insertBefore(card.element, after ?? (this.outsiders.parentNode ? this.outsiders : null));
      }
      card.draw(client, model, now);
    }
    for (const [name, card] of this.cards) {
      if (model.clients.has(name)) continue;
      card.element.remove();
      this.cards.delete(name);
    }
    this.root.classList.toggle("many", this.cards.size > 4);
    byID("clear-clients").hidden = this.cards.size < 3 || this.readOnly;
    this.drawOutsiders(now);
  }

  drawOutsiders(now) {
    const model = this.model;
    if (performance.now() - (this.outsidersDrawn ?? -1000) < 150 && !model.still) return;
    this.outsidersDrawn = performance.now();
    const here = [];
    for (const client of model.clients.values()) {
      if (!client.outside) continue;
      for (const server of model.servers.values()) {
        if (connectionOf(server, client, model)) here.push([client, server]);
      }
    }
    this.outsiders.hidden = here.length === 0;
    if (here.length === 0) return;
    if (!this.outsiders.parentNode) this.root.append(this.outsiders);
    this.outsiders.replaceChildren(
      h("header", {}, h("h3", {}, words("outside"))),
      h("ul", { class: "reactions" }, ...here.slice(-OUTSIDERS).map(([client, server]) => {
        const { sign, kind, text } = reaction(server, client, model);
        return h("li", { "data-kind": kind }, h("span", { class: "sign" }, icon(sign)),
          h("b", {}, chip(client.name, client.hue, client.outside)),
          h("span", { class: "reaction" }, words("outside.at", { server: model.labelOf(server), text })));
      })),
      here.length > OUTSIDERS ? h("p", { class: "quiet-text" }, words("more", { n: here.length - OUTSIDERS })) : "");
  }
}
