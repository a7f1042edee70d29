
const report = JSON.parse(by("story").textContent);
by("target").textContent = `${report.target}, scenario ${report.scenario}`;
by("asks").textContent = report.asks;
by("again").textContent = report.again;
viewer.shown = at => {
  if (at === report.steps.length - 1) by("verdict").scrollIntoView({block: "nearest"});
};
viewer.load(report, 0);
