// What a page says, in the language of its reader. Every page has a table for each
// language, key -> text; in a text, {name} stands for a value, and `...` is code.

const KEPT = "lesson-tour-language";
const NAMES = { en: "English", zh: "中文" };

/** chosen is the one of some languages that this browser has kept; else the first of the
 * reader's own. */
function chosen(languages) {
  let kept = null;
  try {
    kept = localStorage.getItem(KEPT);
  } catch {
    // It keeps nothing for us.
  }
  const own = navigator.languages.map((l) => l.slice(0, 2).toLowerCase());
  return [kept, ...own].find((l) => languages.includes(l)) ?? "en";
}

/** speech returns what a page says. tables: {en: {key: text}, zh: {key: text}}. */
export function speech(tables) {
  let language = chosen(Object.keys(tables));

  /** words is the text with a key. {name} in it becomes args.name: a value, or
   * {key, args} of another text, or a list. A number n chooses between key.one and key.other. */
  function words(key, args = {}) {
    const table = tables[language];
    const text = table[key] ?? table[`${key}.${args.n === 1 ? "one" : "other"}`];
    return text === undefined ? key : text.replace(/\{(\w+)\}/g, (whole, name) => shown(args[name]) ?? whole);
  }

  /** shown is a value in a text: of a list each one, of a text in the same language. */
  function shown(value) {
    if (Array.isArray(value)) return value.map(shown).join(words("comma"));
    if (value?.key) return words(value.key, value.args);
    return value?.text === undefined ? value : said(value);
  }

  /** said is a sentence of the program: {text, form, args}, or a text without arguments.
   * What the table does not have is shown as it came. */
  function said(sentence) {
    const { text, form, args = [] } = typeof sentence === "string" ? { text: sentence } : sentence;
    const found = tables[language][form ?? text];
    if (found === undefined) return text;
    return found.replace(/\{(\d+)\}/g, (whole, i) => shown(args[i]) ?? whole);
  }

  /** fill puts a text into an element. What the element holds as data-part="name" goes
   * where the text has {name}. */
  function fill(element, text) {
    const parts = new Map([...element.querySelectorAll("[data-part]")].map((e) => [e.dataset.part, e]));
    element.replaceChildren(...text.split(/(`[^`]*`|\{\w+\})/).filter(Boolean).map((piece) => {
      if (piece[0] === "{") return parts.get(piece.slice(1, -1)) ?? piece;
      if (piece[0] !== "`") return piece;
      const code = document.createElement("code");
      code.textContent = piece.slice(1, -1);
      return code;
    }));
  }

  /** put lets an element say the text with a key, in whatever language. */
  function put(element, key) {
    element.dataset.words = key;
    fill(element, words(key));
  }

  /** translate fills the elements that name a text: data-words for what is in them,
   * data-words-aria-label, -title, -placeholder and -content for attributes. */
  function translate(root = document) {
    for (const e of root.querySelectorAll("[data-words]")) fill(e, words(e.dataset.words));
    for (const name of ["aria-label", "title", "placeholder", "content"]) {
      for (const e of root.querySelectorAll(`[data-words-${name}]`)) {
        e.setAttribute(name, words(e.getAttribute(`data-words-${name}`)));
      }
    }
    document.documentElement.lang = tag(language);
  }

  const tag = (of) => (of === "zh" ? "zh-Hans" : of);

  /** offer makes a button of the other language, in that language. then is called when
   * the page speaks it. */
  function offer(button, then) {
    button.hidden = Object.keys(tables).length < 2;
    const show = () => {
      const other = language === "en" ? "zh" : "en";
      button.lang = tag(other);
      button.textContent = NAMES[other];
    };
    button.addEventListener("click", () => {
      language = language === "en" ? "zh" : "en";
      try {
        localStorage.setItem(KEPT, language);
      } catch {
        // Then the next page begins with the reader's own language.
      }
      show();
      translate();
      then();
    });
    show();
  }

  return { words, said, fill, put, translate, offer, tag, language: () => language };
}
