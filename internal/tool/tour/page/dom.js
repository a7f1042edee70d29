// Making elements, and saying things in words.

import { words } from "./language.js";

/** h makes an element: h("p", {class: "note"}, "text", child). A property that
 * begins with "on" is a listener; null, false and undefined are left out. */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((c) => c !== null && c !== undefined && c !== false));
  return element;
}

const SVG = "http://www.w3.org/2000/svg";

/** icon is one of the symbols of index.html. It never stands for a word alone. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}

export const byID = (id) => document.getElementById(id);

/** setText changes a text only when it is another one: a screen reader need not
 * look, and nothing is laid out again. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** setAttribute does the same for an attribute; null takes it away. */
export function setAttribute(element, name, value) {
  if (value === null || value === false) {
    if (element.hasAttribute(name)) element.removeAttribute(name);
  } else if (element.getAttribute(name) !== String(value)) {
    element.setAttribute(name, value);
  }
}

/** chip is a connection's name in its colour. */
export function chip(name, hue, title) {
  return h("span", { class: `chip hue-${hue}`, title }, name);
}

/** duration says a number of nanoseconds. */
export function duration(ns) {
  if (ns < 1e3) return `${Math.max(0, Math.round(ns))} ns`;
  if (ns < 1e6) return `${Math.round(ns / 1e3)} µs`;
  if (ns < 1e9) return `${ns < 1e7 ? (ns / 1e6).toFixed(1) : Math.round(ns / 1e6)} ms`;
  if (ns < 60e9) return `${(ns / 1e9).toFixed(1)} s`;
  return `${Math.floor(ns / 60e9)} min ${Math.floor((ns % 60e9) / 1e9)} s`;
}

/** visible makes of bytes what can be seen, as Go and C write them: \r, \n. */
export function visible(text) {
  return text
    .replace(/\r/g, "\\r")
    .replace(/\n/g, "\\n")
    .replace(/[\u0000-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, "·");
}

const still = matchMedia("(prefers-reduced-motion: reduce)");

/** reducedMotion reports whether the reader wants no motion. */
export const reducedMotion = () => still.matches;

/** say tells a screen reader, politely. */
export function say(text) {
  setText(byID("say"), text);
}

let toastTimer = 0;

/** toast shows what went wrong, and what to try. */
export function toast(text) {
  const box = byID("toast");
  box.replaceChildren(
    h("p", {}, text),
    h("button", { type: "button", "aria-label": words("toast.close"), onclick: () => box.replaceChildren() }, "✕"),
  );
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => box.replaceChildren(), 12000);
}
