// Asking the program that serves the page; or, on a static host, the files beside it.

import { said, words } from "./language.js";

/** live is whether there is a program that answers. */
export const live = document.querySelector('meta[name="tour"]')?.content !== "static";

const headers = { "X-Lesson-Tour": "1" };

async function failure(response) {
  try {
    const { error, hint, said: [what, advice] = [error, hint] } = await response.json();
    return new Error(hint ? words("problem", { error: said(what), hint: said(advice) }) : said(what));
  } catch {
    return new Error(`${response.status} ${response.statusText}`); // it was no JSON
  }
}

async function get(url) {
  const response = await fetch(url, { headers });
  if (!response.ok) throw await failure(response);
  return response.json();
}

const encodePath = (path) => path.split("/").map(encodeURIComponent).join("/");

export const book = () => get(live ? "api/book" : "data/book.json");

/** chapter is a page in a language: "en" or "zh". */
export const chapter = (id, language) =>
  get(live ? `api/chapter/${encodePath(id)}?lang=${language}` : `data/chapter/${language}/${encodePath(id)}.json`);

const sources = new Map();
const known = new Set(); // the files that can be asked for

/** allow names the files that source may ask for. A recording may name any. */
export function allow(files) {
  for (const file of files) known.add(file);
}

/** source is a file's lines, each a list of [class, text], asked for once. */
export function source(file) {
  if (!known.has(file)) return Promise.reject(new Error(words("source.none", { file })));
  if (!sources.has(file)) {
    const url = live
      ? `api/source?file=${encodeURIComponent(file)}`
      : `data/source/${encodePath(file)}.json`;
    const answer = get(url).then((s) => s.lines);
    answer.catch(() => sources.delete(file)); // the next one to ask tries again
    sources.set(file, answer);
  }
  return sources.get(file);
}

export const scenarioRecording = (name) => get(`data/recording/${encodePath(name)}.json`);

async function post(url, body, options = {}) {
  const response = await fetch(url, {
    method: "POST",
    headers: { ...headers, "Content-Type": "application/json" },
    body: JSON.stringify(body),
    ...options,
  });
  if (!response.ok) throw await failure(response);
  const text = await response.text();
  return text ? JSON.parse(text) : {};
}

/** A Session is this page's own servers and clients. */
export class Session {
  static async begin() {
    return new Session((await post("api/sessions", {})).id);
  }

  constructor(id) {
    this.id = id;
    this.base = `api/sessions/${encodeURIComponent(id)}`;
  }

  add(name) {
    return post(`${this.base}/servers`, { add: name });
  }

  remove(server) {
    return post(`${this.base}/servers`, { remove: server });
  }

  /** again starts a server that has ended. */
  again(server) {
    return post(`${this.base}/servers`, { again: server });
  }

  /** hold stops a server ("freeze"), or takes its descriptors away ("ration"). */
  hold(how, server, on) {
    return post(`${this.base}/servers`, { [how]: server, on });
  }

  act(act) {
    return post(`${this.base}/acts`, act);
  }

  scenario(order) {
    return post(`${this.base}/scenario`, order);
  }

  recording() {
    return get(`${this.base}/recording`);
  }

  /** end may be called while the page goes away. */
  end() {
    post(`${this.base}/end`, {}, { keepalive: true }).catch(() => {
      // The page is gone; the program ends the session by itself.
    });
  }
}
