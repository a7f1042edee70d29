
// The questions of the chapters, in the language of the page. Their HTML is rendered by our
// program, from its own pages.

const quiz = JSON.parse(by("quiz").textContent);
const asked = () => quiz[language()] ?? quiz.en;

function html(name, className, text) {
  const e = element(name, className);
  e.innerHTML = text;
  return e;
}

for (const i of asked().keys()) by("asks").append(new Option("", i));

/** ask shows the questions of the chapter that is chosen. */
function ask() {
  asked().forEach((c, i) => { by("asks").options[i + 1].text = c.title; });
  const chapter = asked()[by("asks").value];
  by("questions").lang = tag(language());
  by("questions").replaceChildren(...chapter?.questions.map((q, i) => question(chapter, q, i)) ?? []);
}

function question(chapter, q, number) {
  const box = element("fieldset");
  const says = element("div", "reason");
  says.setAttribute("role", "status");
  box.append(html("legend", "", q.text), ...q.choices.map((choice, i) => {
    const label = element("label");
    const radio = element("input");
    radio.type = "radio";
    radio.name = `question-${number}`;
    radio.addEventListener("change", () => says.replaceChildren(...answer(chapter, q, i)));
    label.append(radio, " ", html("span", "", choice));
    return label;
  }), says);
  return box;
}

/** answer is what is said to the choice of an answer: the reason is the chapter's. */
function answer(chapter, q, chosen) {
  const right = chosen === q.right;
  const all = [element("p", "says", words(right ? "quiz.right" : "quiz.wrong"))];
  if (!right) all[0].append(" ", html("span", "", q.choices[q.right]));
  all.push(html("div", "", q.reason));
  if (q.proof) {
    const proof = element("p");
    fill(proof, words("quiz.proof", {command: `\`${q.proof}\``}));
    all.push(proof);
  }
  if (book) {
    const read = element("a", "", words("quiz.read"));
    read.href = bookLink(chapter.page);
    all.push(read);
  }
  return all;
}

by("asks").addEventListener("change", ask);
ask();
