// Small drawings of numbers: what an environment without a picture shows, and the trail of value and reward.

import { colour } from "./format.js";

/** Bars up and down from zero for a vector; for a "summary" the range from least to greatest and the mean in it. */
export function drawStrip(pen, box, values, kind, bounds, looks) {
  const pad = Math.min(6, box.width * 0.06);
  const [left, width] = [box.x + pad, box.width - 2 * pad];
  const [top, height] = [box.y + pad, box.height - 2 * pad];
  if (kind === "summary") {
    drawRange(pen, left, top, width, height, values, bounds, looks);
    return;
  }
  const step = width / values.length;
  const gap = step > 4 ? 1 : 0;
  values.forEach((value, i) => {
    if (value === null) return;
    const [low, high] = scaleOf(i, value, bounds);
    const place = (x) => top + height * (1 - (Math.min(Math.max(x, low), high) - low) / (high - low || 1));
    const zero = place(low > 0 ? low : high < 0 ? high : 0);
    const end = place(value);
    pen.fillStyle = looks.data;
    pen.fillRect(left + i * step, Math.min(zero, end) - 0.5, Math.max(step - gap, 0.7), Math.max(Math.abs(end - zero), 1));
  });
}

/** Between which numbers the i-th is drawn: its bounds, or a power of two that does not dance where it has none. */
function scaleOf(i, value, { low, high } = {}) {
  const [least, greatest] = [low?.[low.length === 1 ? 0 : i] ?? null, high?.[high.length === 1 ? 0 : i] ?? null];
  if (least !== null && greatest !== null && greatest > least && greatest - least < 1e6) return [least, greatest];
  const size = 2 ** Math.ceil(Math.log2(Math.abs(value) || 1));
  return [-size, size];
}

function drawRange(pen, left, top, width, height, [least, mean, greatest], bounds, looks) {
  if (least === null || greatest === null) return;
  const [low, high] = scaleOf(0, Math.max(Math.abs(least), Math.abs(greatest)), bounds);
  const place = (x) => left + (width * (Math.min(Math.max(x, low), high) - low)) / (high - low);
  pen.fillStyle = looks.quiet;
  pen.fillRect(place(least), top + height * 0.42, Math.max(place(greatest) - place(least), 1), height * 0.16);
  pen.fillStyle = looks.data;
  pen.fillRect(place(mean) - 1.5, top + height * 0.25, 3, height * 0.5);
}

/** Makes a canvas as dense as the screen; returns its pen and its size in pixels of the page. */
export function prepare(canvas) {
  const dense = window.devicePixelRatio || 1;
  const { clientWidth: width, clientHeight: height } = canvas;
  if (canvas.width !== Math.round(width * dense) || canvas.height !== Math.round(height * dense)) {
    canvas.width = Math.round(width * dense);
    canvas.height = Math.round(height * dense);
  }
  const pen = canvas.getContext("2d");
  pen.setTransform(dense, 0, 0, dense, 0, 0);
  pen.clearRect(0, 0, width, height);
  return { pen, width, height };
}

/** A line of values over the last steps, and a tick for each reward that is not zero: up for a gain, down for a loss. */
export function drawTrail(canvas, values, rewards) {
  const { pen, width, height } = prepare(canvas);
  const count = Math.max(values.length, rewards.length, 2);
  const across = (i, length) => 8 + ((width - 16) * (count - length + i)) / (count - 1);
  const middle = height - 20;
  const most = Math.max(...rewards.map((reward) => Math.abs(reward ?? 0)), 1e-9);
  pen.fillStyle = colour("line");
  pen.fillRect(8, middle, width - 16, 1);
  pen.fillStyle = colour("mark");
  rewards.forEach((reward, i) => {
    if (!reward) return;
    const size = Math.max(2, (14 * Math.abs(reward)) / most);
    pen.fillRect(across(i, rewards.length) - 1, reward > 0 ? middle - size : middle + 1, 2, size);
  });
  const known = values.filter((value) => value !== null && Number.isFinite(value));
  if (known.length < 2) return;
  let [low, high] = [Math.min(...known), Math.max(...known)];
  const least = Math.max(0.02 * Math.max(Math.abs(low), Math.abs(high)), 1e-6); // a still value is a straight line
  if (high - low < least) [low, high] = [(low + high - least) / 2, (low + high + least) / 2];
  const up = (value) => 8 + (middle - 22) * (1 - (value - low) / (high - low));
  pen.strokeStyle = colour("data");
  pen.lineWidth = 1.75;
  pen.lineJoin = "round";
  pen.beginPath();
  let drawing = false;
  values.forEach((value, i) => {
    if (value === null || !Number.isFinite(value)) drawing = false;
    else if (drawing) pen.lineTo(across(i, values.length), up(value));
    else {
      pen.moveTo(across(i, values.length), up(value));
      drawing = true;
    }
  });
  pen.stroke();
}
