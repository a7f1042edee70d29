// The line that tells a newcomer what to do first, and what next.

import { byID, h } from "./dom.js";
import { words } from "./language.js";
import { requests } from "./model.js";

const SEEN = "lesson-tour-hint";

/** remembered is what this browser has kept for the page; null for nothing. */
export function remembered(key) {
  try {
    return localStorage.getItem(key);
  } catch {
    return null; // it keeps nothing for us
  }
}

export function remember(key, value) {
  try {
    localStorage.setItem(key, value);
  } catch {
    // Then it is asked again next time.
  }
}

/** Hint guides the first acts of a new reader. */
export class Hint {
  constructor(live) {
    this.root = byID("hint");
    this.root.hidden = !live || remembered(SEEN) === "seen";
    byID("hint-close").addEventListener("click", () => {
      this.close();
      byID("clients").focus();
    });
  }

  close() {
    this.root.hidden = true;
    remember(SEEN, "seen");
  }

  /** acted continues with what comes after an act. */
  acted(act) {
    if (this.root.hidden) return;
    if (act.do === "connect" && act.client === "a") this.done("connect");
    if (act.do === "send" && act.client === "a") {
      this.done("connect");
      this.done("half");
      this.half = act.bytes === requests.half;
      if (this.half) this.say("hint.half-sent");
      remember(SEEN, "seen");
    }
    if (act.do === "send" && act.client !== "a" && this.half && act.bytes.endsWith("\r\n\r\n")) {
      this.say("hint.answered");
    }
  }

  done(step) {
    const element = this.root.querySelector(`[data-step="${step}"]`);
    element?.classList.add("done");
    element?.querySelector("b").replaceChildren("✓");
  }

  say(key) {
    byID("hint-text").replaceChildren(h("span", {}, h("strong", { "data-words": key }, words(key)),
      h("span", { "data-words": `${key}.next` }, words(`${key}.next`))));
  }
}
