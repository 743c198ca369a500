// Curves of metrics.jsonl: small ones that share an x axis and a cursor, drawn by uPlot.

import { colour, duration, element, number, offer, short, shortDuration, text } from "./format.js";

const HEIGHT = 150;
const COHORT = "cohort_";
// Title -> columns; those that no line has are left out. The first column is drawn boldly.
const USUAL = [
  ["return", ["episode_return_mean", "cohort_return_mean"]],
  ["steps/s", ["steps_per_s"]],
  ["lag in updates, mean and greatest", ["policy_lag_mean", "policy_lag_max"]],
  ["loss", ["loss"]],
  ["entropy", ["entropy"]],
  ["value of the best action", ["q_value_mean"]],
];

/** The panel. */
export class Curves {
  #columns = {};
  #plots = [];
  #drawn = "";

  constructor() {
    for (const id of ["plots", "plots-empty", "more"]) this[id] = document.getElementById(id);
    this.axis = "frames";
    this.extra = "";
    this.more.addEventListener("change", () => {
      this.extra = this.more.value;
      this.#draw();
    });
    for (const button of document.querySelectorAll("[data-axis]")) {
      button.addEventListener("click", () => this.#over(button.dataset.axis));
    }
    const again = () => {
      this.#drawn = "";
      this.#draw();
    };
    window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
    new ResizeObserver(() => this.#resize()).observe(this.plots);
  }

  /** Takes all columns: name -> numbers, null where not known. */
  show(columns) {
    this.#columns = columns;
    this.#offer();
    this.#draw();
  }

  #over(axis) {
    this.axis = axis;
    for (const button of document.querySelectorAll("[data-axis]")) {
      button.setAttribute("aria-pressed", String(button.dataset.axis === axis));
    }
    this.#drawn = "";
    this.#draw();
  }

  #has(name) {
    return this.#columns[name]?.some((value) => value !== null) ?? false;
  }

  #offer() {
    const usual = new Set(["frames", "wall_s", ...USUAL.flatMap(([, names]) => names)]);
    const names = Object.keys(this.#columns).filter((name) => !usual.has(name) && this.#has(name)).sort();
    if (!names.includes(this.extra)) this.extra = "";
    offer(this.more, ["", ...names].map((name) => [name, name || "no other curve"]), this.extra);
  }

  #wanted() {
    const found = USUAL.map(([title, names]) => [title, names.filter((name) => this.#has(name))]).filter(([, names]) => names.length);
    if (this.extra) found.push([this.extra, [this.extra]]);
    return found;
  }

  #draw() {
    const x = this.#columns[this.axis] ?? [];
    const wanted = x.length > 0 ? this.#wanted() : [];
    this["plots-empty"].hidden = wanted.length > 0;
    const drawn = JSON.stringify([this.axis, wanted]);
    if (drawn !== this.#drawn) {
      this.#drawn = drawn;
      for (const plot of this.#plots) plot.destroy();
      this.plots.replaceChildren();
      this.#plots = wanted.map(([title, names]) => this.#make(title, names));
    }
    this.#plots.forEach((plot, i) => {
      plot.setData([x, ...wanted[i][1].map((name) => (name.startsWith(COHORT) ? onlyNews(this.#columns[name]) : this.#columns[name]))]);
      plot.say(null);
    });
  }

  #make(name, names) {
    const [box, heading, title, now] = [element("div", "plot"), element("h3"), element("span", "cut", name), element("span", "now")];
    heading.append(title, now);
    box.append(heading);
    this.plots.append(box);
    const lines = ["data", "mark"];
    now.append(...names.map((_, i) => element("span", lines[i])));
    const axis = { stroke: colour("quiet"), grid: { stroke: colour("line"), width: 1 }, ticks: { show: false }, font: "11px system-ui, sans-serif" };
    const overTime = this.axis === "wall_s";
    const plot = new window.uPlot({
      width: Math.max(box.clientWidth, 200),
      height: HEIGHT,
      padding: [8, 6, 0, 0],
      legend: { show: false },
      cursor: { sync: { key: "curves" }, points: { size: 6 }, y: false },
      scales: { x: { time: false } },
      axes: [
        { ...axis, space: 64, size: 26, values: (_, ticks) => ticks.map(overTime ? shortDuration : short) },
        { ...axis, space: 28, size: 48, values: (_, ticks) => ticks.map(short) },
      ],
      series: [{}, ...names.map((column, i) => ({
        label: column, stroke: colour(lines[i]), width: i ? 1.25 : 1.75, spanGaps: true,
        points: { size: 5, fill: colour(lines[i]) }, ...(column.startsWith(COHORT) ? dots(colour(lines[i])) : {}),
      }))],
      hooks: { setCursor: [(self) => self.say(self.cursor.idx)] },
    }, [[], ...names.map(() => [])], box);
    plot.ctx.canvas.setAttribute("role", "img");
    plot.ctx.canvas.setAttribute("aria-label", `curve: ${name}`);
    plot.say = (at) => {
      const [x, ...values] = plot.data;
      const here = at !== null && at !== undefined;
      values.forEach((column, i) => text(now.children[i], number(here ? column[at] : lastOf(column))));
      text(title, here ? `${name} at ${overTime ? duration(x[at]) : short(x[at])}` : name);
    };
    return plot;
  }

  #resize() {
    for (const plot of this.#plots) {
      const width = plot.root.parentElement.clientWidth;
      if (width && Math.abs(width - plot.width) > 1) plot.setSize({ width, height: HEIGHT });
    }
  }
}

/** The value of each line that differs from that of the line before: lines repeat the newest cohort until the next. */
function onlyNews(column) {
  return column.map((value, i) => (value === column[i - 1] ? null : value));
}

/** Cohorts are judged now and then: a dot for each. */
function dots(stroke) {
  return { paths: () => null, points: { show: true, size: 7, fill: stroke } };
}

function lastOf(column) {
  for (let i = column.length - 1; i >= 0; i -= 1) if (column[i] !== null) return column[i];
  return null;
}
