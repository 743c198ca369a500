// The marked environment: its picture, what the policy thinks of its actions, value and reward of its last steps.

import { colour, element, fillPairs, keep, number, text } from "./format.js";
import { drawStrip, drawTrail, prepare } from "./strips.js";

const TITLES = {
  probabilities: "Probabilities of actions",
  q_values: "Values of actions",
  normal: "Actions, from −1 to 1",
  mixed: "Actions",
};
const SHOWN_WIDTH = 420; // pixels of the large picture: a multiple of the frame's where it fits

/** The panel beside the mosaic. */
export class Watch {
  constructor() {
    for (const id of ["watch-title", "watch-client", "picture", "watch-figures", "policy-title", "policy", "others", "trail", "trail-steps", "marked"]) {
      this[id] = document.getElementById(id);
    }
    this.answer = null;
    window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#drawTrail());
    new ResizeObserver(() => this.#drawTrail()).observe(this.trail);
  }

  /** Another environment is marked: what was known of the last one goes. */
  begin(tile) {
    this.tile = tile;
    this.answer = null;
    text(this["watch-title"], `Environment ${tile.environment}`);
    text(this["watch-client"], [tile.task, tile.client].filter(Boolean).join(" · "));
    text(this.marked, `Environment ${tile.environment} is marked`);
    this["watch-figures"].replaceChildren();
    this.policy.replaceChildren();
    this.others.replaceChildren();
    this.#drawTrail();
  }

  /** Nothing is there to be marked. */
  clear() {
    this.tile = null;
    this.answer = null;
    text(this["watch-title"], "Environment");
    text(this["watch-client"], "");
    this["watch-figures"].replaceChildren();
    this.policy.replaceChildren();
    this.others.replaceChildren();
    this.picture.getContext("2d").clearRect(0, 0, this.picture.width, this.picture.height);
    this.#drawTrail();
  }

  /** The picture, cut out of that of all environments. */
  paint(cut) {
    if (!cut) return;
    const times = Math.max(1, Math.round(SHOWN_WIDTH / cut.width));
    const [width, height] = [cut.width * times, cut.height * times];
    if (this.picture.width !== width || this.picture.height !== height) {
      [this.picture.width, this.picture.height] = [width, height];
    }
    const pen = this.picture.getContext("2d");
    pen.imageSmoothingEnabled = false;
    pen.drawImage(cut.bitmap, cut.x, cut.y, cut.width, cut.height, 0, 0, width, height);
  }

  /** What the server says of it; `part` is the observation array that the mosaic shows. */
  show(answer, part = 0) {
    this.answer = answer;
    if (answer.client) text(this["watch-client"], [this.tile?.task, answer.client].filter(Boolean).join(" · "));
    const seen = answer.since_look ? "seen " : ""; // of an episode that began before anybody looked
    fillPairs(this["watch-figures"], [
      ["value", number(answer.value)],
      [`${seen}return`, number(answer.return)],
      [`${seen}step`, number(answer.step)],
      ["reward", number(answer.reward)],
      ["action", describeAction(answer)],
      ["version", number(answer.version)],
    ]);
    text(this["policy-title"], TITLES[answer.kind] ?? "Policy");
    drawPolicy(this.policy, barsOf(answer));
    this.#showParts(answer.parts ?? [], part);
    this.#drawTrail();
  }

  /** The array of the mosaic as numbers, large, where it is no image; below, all others that are none. */
  #showParts(parts, chosen) {
    const looks = { sunk: colour("sunk"), data: colour("data"), quiet: colour("quiet") };
    const own = parts[chosen];
    if (own?.values) {
      [this.picture.width, this.picture.height] = [380, 228];
      const pen = this.picture.getContext("2d");
      drawStrip(pen, { x: 0, y: 0, width: 380, height: 228 }, own.values, own.kind, own, looks);
    }
    const others = parts.filter((one, i) => i !== chosen && one.values);
    keep(this.others, others.length, () => {
      const item = element("li");
      item.append(element("span", "label cut"), element("canvas"));
      item.children[1].setAttribute("role", "img");
      return item;
    });
    others.forEach((one, i) => {
      const [label, canvas] = this.others.children[i].children;
      text(label, one.name);
      canvas.setAttribute("aria-label", `${one.name}: ${one.values.length} numbers`);
      const { pen, width, height } = prepare(canvas);
      drawStrip(pen, { x: 0, y: 0, width, height }, one.values, one.kind, one, looks);
    });
  }

  #drawTrail() {
    const { value = [], reward = [] } = this.answer?.trail ?? {};
    text(this["trail-steps"], Math.max(value.length, reward.length) || 120);
    if (this.trail.clientWidth) drawTrail(this.trail, value, reward);
  }
}

function describeAction({ action }) {
  if (action === null || typeof action !== "object") return number(action);
  const all = Object.values(action).flat();
  return all.length > 3 ? `${all.length} numbers` : all.map((one) => number(one)).join(", ");
}

/** Bars of an answer: { label, from, to, value, taken } each, from and to as shares of the width; or { group }. */
export function barsOf({ policy, policy_parts: parts = [], action }) {
  if (!policy) return [];
  const bars = [];
  for (const { name, kind, from, sizes } of parts) {
    const starts = sizes.map((_, i) => from + sizes.slice(0, i).reduce((sum, size) => sum + size, 0));
    const slices = sizes.map((size, i) => policy.slice(starts[i], starts[i] + size));
    const taken = action !== null && typeof action === "object" ? action[name] ?? [] : [action];
    if (parts.length > 1) bars.push({ group: name });
    if (kind === "normal") bars.push(...normalBars(slices));
    else {
      slices.forEach((values, i) => {
        if (sizes.length > 1) bars.push({ group: `${name}, ${i + 1} of ${sizes.length}` });
        bars.push(...(kind === "q_values" ? valueBars(values, taken[i]) : shareBars(values, taken[i])));
      });
    }
  }
  return bars;
}

const clamp = (x, low, high) => Math.min(Math.max(x, low), high);

function shareBars(values, taken) {
  return values.map((value, i) => ({ label: i, value, taken: i === taken, from: 0, to: clamp(value ?? 0, 0, 1) }));
}

/** From zero to the left and to the right; the scale is that of all of them. */
function valueBars(values, taken) {
  const known = values.filter((value) => value !== null);
  const [low, high] = [Math.min(0, ...known), Math.max(0, ...known)];
  const at = (value) => (value - low) / (high - low || 1);
  return values.map((value, i) => ({
    label: i, value, taken: i === taken, zero: at(0), from: Math.min(at(0), at(value ?? 0)), to: Math.max(at(0), at(value ?? 0)),
  }));
}

/** From the middle to the mean; a deviation to both sides of it. */
function normalBars([means, deviations = []]) {
  const at = (value) => (clamp(value ?? 0, -1, 1) + 1) / 2;
  return means.map((value, i) => ({
    label: i, value, zero: 0.5, from: Math.min(0.5, at(value)), to: Math.max(0.5, at(value)),
    spread: deviations[i] === undefined ? undefined : [at(value - deviations[i]), at(value + deviations[i])],
  }));
}

function drawPolicy(list, bars) {
  keep(list, bars.length, makeBar);
  bars.forEach((bar, i) => {
    const row = list.children[i];
    const [label, track, value] = row.children;
    row.className = bar.group !== undefined ? "group" : bar.taken ? "taken" : "";
    text(label, bar.group ?? bar.label);
    track.hidden = value.hidden = bar.group !== undefined;
    if (bar.group !== undefined) return;
    text(value, bar.value === null ? number(null) : bar.value.toFixed(Math.abs(bar.value) >= 100 ? 1 : 2));
    const [spread, amount, zero] = track.children;
    spread.hidden = bar.spread === undefined;
    if (bar.spread) place(spread, ...bar.spread);
    place(amount, bar.from, bar.to);
    zero.hidden = bar.zero === undefined;
    if (bar.zero !== undefined) zero.style.left = `${bar.zero * 100}%`;
  });
}

function makeBar() {
  const [row, track] = [element("li"), element("span", "track")];
  track.append(element("i", "spread"), element("i", "amount"), element("i", "zero"));
  row.append(element("span", "label cut"), track, element("span", "number"));
  return row;
}

function place(part, from, to) {
  part.style.left = `${from * 100}%`;
  part.style.width = `${Math.max((to - from) * 100, 0)}%`;
}
