
const report = JSON.parse(by("story").textContent);
by("target").textContent = words("viewer.target", report);
by("asks").textContent = report.asks;
by("again").textContent = report.again;
by("notes").textContent = (report.notes ?? []).join(" ");
// A link to a step is that of the tour: #step=5.
const linked = () => {
  const number = Number(new URLSearchParams(location.hash.slice(1)).get("step"));
  return Math.max(0, report.steps.findLastIndex(step => step.number <= number));
};
let addressing = 0;
viewer.shown = at => {
  if (at === report.steps.length - 1) by("verdict").scrollIntoView({block: "nearest"});
  clearTimeout(addressing); // a browser lets a page change its address only so often
  addressing = setTimeout(() => history.replaceState(null, "", `#step=${report.steps[at].number}`), 200);
};
addEventListener("hashchange", () => viewer.show(linked()));
viewer.load(report, linked());
