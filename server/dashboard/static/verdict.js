// What holds everything up, in words, and where the time of a request, a batch and an update goes.

import { element, keep, milliseconds, number, text } from "./format.js";

const STACKS = [
  ["A request", { accept: "accept", wait: "wait for a batch", inference: "inference", reply: "reply" }],
  ["A batch", { inference: "inference", remember: "bookkeeping", back_pressure: "wait for the learner" }],
  ["An update", { batch_wait: "wait for a batch", update: "learn and publish" }],
];
// A stage has one colour wherever it stands.
const COLOURS = { accept: 5, wait: 2, inference: 1, reply: 4, remember: 6, back_pressure: 3, batch_wait: 2, update: 1 };
const FULL = 0.85; // as in the verdict: beyond this a stage's queue grows
const NAMES = {
  none: "Nothing", unknown: "Not clear yet", latency: "Round trips", rate: "The rate asked for", errors: "Errors",
  idle: "Nothing to do", waiting: "Waiting for company", machine: "This machine",
};

/** The panel. */
export class Verdict {
  constructor() {
    for (const id of ["verdict", "change", "stacks", "busy"]) this[id] = document.getElementById(id);
    for (const [title] of STACKS) this.stacks.append(makeStack(title));
  }

  show({ verdict, stages_ms: stages, busy }) {
    this.#say(verdict);
    STACKS.forEach(([title, names], i) => fillStack(this.stacks.children[i], title, names, stages ?? {}));
    fillMeters(this.busy, Object.entries(busy ?? {}));
  }

  #say(verdict) {
    if (!verdict) {
      text(this.verdict, "Nothing can be said yet.");
      text(this.change, "");
      return;
    }
    const name = NAMES[verdict.stage] ?? capital(verdict.stage);
    const said = `${name}: ${verdict.reason}.`;
    if (this.verdict.textContent !== said) this.verdict.replaceChildren(element("b", "", `${name}:`), ` ${verdict.reason}.`);
    text(this.change, verdict.change ? `→ ${verdict.change}.` : "");
  }
}

function capital(word) {
  return word.charAt(0).toUpperCase() + word.slice(1);
}

function makeStack(title) {
  const made = element("div");
  made.append(element("h3", "", title), element("div", "stack"), element("ul", "stack-legend"));
  made.children[1].setAttribute("role", "img");
  return made;
}

function fillStack(stack, title, names, stages) {
  const known = Object.entries(names).filter(([stage]) => Number.isFinite(stages[stage]));
  const total = known.reduce((sum, [stage]) => sum + stages[stage], 0);
  const [heading, bar, legend] = stack.children;
  text(heading, known.length ? `${title}, ${milliseconds(total)}` : title);
  bar.setAttribute("aria-label", known.map(([stage, name]) => `${name} ${milliseconds(stages[stage])}`).join(", "));
  keep(bar, known.length, () => element("span"));
  keep(legend, known.length, () => {
    const item = element("li");
    item.append(element("i"), element("span"));
    return item;
  });
  known.forEach(([stage, name], i) => {
    bar.children[i].className = `s${COLOURS[stage]}`;
    bar.children[i].style.flexGrow = total > 0 ? stages[stage] / total : 0;
    legend.children[i].children[0].className = `s${COLOURS[stage]}`;
    text(legend.children[i].children[1], `${name} ${milliseconds(stages[stage])}`);
  });
}

function fillMeters(list, entries) {
  keep(list, entries.length, () => {
    const [item, meter] = [element("li"), element("meter")];
    Object.assign(meter, { min: 0, max: 1, high: FULL, optimum: 0 });
    item.append(element("span", "cut"), meter, element("span", "number"));
    return item;
  });
  entries.forEach(([name, share], i) => {
    const [label, meter, value] = list.children[i].children;
    text(label, name);
    meter.value = Math.min(share ?? 0, 1);
    meter.setAttribute("aria-label", `${name} busy`);
    text(value, share === null ? number(null) : `${Math.round(share * 100)} %`);
  });
}
