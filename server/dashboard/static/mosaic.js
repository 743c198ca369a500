// All environments in one canvas. The server sends one picture of all tiles; they are cut out of it and laid out anew.

import { colour } from "./format.js";
import { drawStrip } from "./strips.js";

const GAP = 4; // pixels of the page, between tiles and around them: the mark is drawn there
const LEAST_TILE = 36;
const LARGEST_TILE = 460;
const STRIP_SIZE = [120, 72];

/** The mosaic: what is shown, which tile is marked. Numbers of tiles count those shown; slots are the server's. */
export class Mosaic {
  #tiles = [];
  #picture = null; // { bitmap, width, height, columns, places: slot -> place }
  #numbers = null; // { values: slot -> numbers, bounds }
  #layout = null;
  #mark = null;
  #due = false;

  /** `onMark(tile)` is called when another tile is marked. */
  constructor(canvas, view, onMark) {
    this.canvas = canvas;
    this.view = view;
    this.onMark = onMark;
    this.size = 1;
    this.kind = null;
    [this.width, this.height] = [1, 1];
    canvas.addEventListener("click", (event) => this.#click(event));
    canvas.addEventListener("mousemove", (event) => this.#point(event));
    new ResizeObserver(() => this.arrange()).observe(view);
  }

  /** The tile under the mark, or null. */
  get marked() {
    return this.#tiles.find((tile) => tile.slot === this.#mark) ?? null;
  }

  get tiles() {
    return this.#tiles;
  }

  /** Pixels of the newest picture. */
  get pixels() {
    return this.#picture ? this.#picture.bitmap.width * this.#picture.bitmap.height : 0;
  }

  /** Shows these tiles: { slot, environment, client, state, task } each. Sizes are of a tile, where they are known. */
  show(tiles, kind, { width = this.width, height = this.height }) {
    const same = kind === this.kind && tiles.length === this.#tiles.length;
    if (kind !== this.kind) {
      this.#forget();
      if (kind === "image") [this.width, this.height] = [width ?? 1, height ?? 1];
    }
    this.kind = kind;
    if (kind !== "image") [this.width, this.height] = STRIP_SIZE;
    this.#tiles = tiles;
    if (!this.#layout || !same) this.arrange();
    else this.#draw();
    if (tiles.length && this.marked === null) this.mark(tiles[0].slot);
  }

  /** Takes a picture and how its tiles lie: { columns, width, height, slots }. */
  paint(bitmap, { columns, width, height, slots }) {
    this.#forget();
    this.canvas.dataset.painted = Number(this.canvas.dataset.painted ?? 0) + 1;
    this.#picture = { bitmap, width, height, columns, places: new Map(slots.map((slot, place) => [slot, place])) };
    const turned = Math.abs(this.width * height - this.height * width) > Math.max(width, height); // more than thinning out does
    if (turned) {
      [this.width, this.height] = [width, height];
      this.arrange();
    } else {
      this.#draw();
    }
  }

  /** Takes numbers of each slot instead: { slots, values, low, high }. */
  fill({ slots, values, low, high }) {
    this.#numbers = { values: new Map(slots.map((slot, place) => [slot, values[place]])), bounds: { low, high } };
    this.#draw();
  }

  #forget() {
    this.#picture?.bitmap.close();
    this.#picture = null;
    this.#numbers = null;
  }

  /** Where a slot lies in the newest picture: { bitmap, x, y, width, height }, or null. */
  cut(slot) {
    const picture = this.#picture;
    const place = picture?.places.get(slot);
    if (place === undefined) return null;
    const { bitmap, width, height, columns } = picture;
    const [x, y] = [(place % columns) * width, Math.floor(place / columns) * height];
    return y + height > bitmap.height ? null : { bitmap, x, y, width, height };
  }

  /** Marks a slot. */
  mark(slot) {
    if (slot === this.#mark) return;
    this.#mark = slot;
    this.#draw();
    if (this.marked) this.onMark(this.marked);
  }

  /** Moves the mark: by columns and rows. */
  move(right, down) {
    if (!this.#tiles.length) return;
    const { columns } = this.#layout;
    const from = Math.max(0, this.#tiles.findIndex((tile) => tile.slot === this.#mark));
    const to = from + right + down * columns;
    if (to < 0 || to >= this.#tiles.length) return;
    this.mark(this.#tiles[to].slot);
    const box = this.#box(to);
    const top = this.view.scrollTop;
    if (box.y < top) this.view.scrollTop = box.y - GAP;
    else if (box.y + box.height > top + this.view.clientHeight) this.view.scrollTop = box.y + box.height + GAP - this.view.clientHeight;
  }

  /** Finds the columns that make tiles largest in the room there is. */
  arrange() {
    const count = this.#tiles.length;
    const room = this.view.clientWidth;
    if (!count || !room) return;
    const tall = document.fullscreenElement ? window.innerHeight - 90 : Math.max(260, Math.min(window.innerHeight * 0.62, 720));
    const ratio = this.height / this.width;
    const fits = (tried) => {
      const byWidth = (room - GAP) / tried - GAP;
      const byHeight = ((tall - GAP) / Math.ceil(count / tried) - GAP) / ratio;
      return Math.min(byWidth, byHeight, LARGEST_TILE);
    };
    const tries = Array.from({ length: count }, (_, i) => i + 1);
    const best = Math.max(...tries.map(fits));
    let columns = tries.findLast((tried) => fits(tried) >= 0.93 * best); // of those about as good the one that fills the width
    const fitting = fits(columns);
    let width = Math.max(fitting, LEAST_TILE);
    if (this.size === 2) width = Math.min(width * 2, room - 2 * GAP);
    if (this.size === 2 || fitting < LEAST_TILE) columns = Math.max(1, Math.min(count, Math.floor((room - GAP) / (width + GAP))));
    width = Math.floor(width);
    this.#layout = { columns, width, height: Math.max(1, Math.round(width * ratio)) };
    this.view.style.maxHeight = `${Math.ceil(tall) + 2}px`;
    this.#fit(count);
    this.#draw();
  }

  #fit(count) {
    const { columns, width, height } = this.#layout;
    const [wide, high] = [columns * (width + GAP) + GAP, Math.ceil(count / columns) * (height + GAP) + GAP];
    const dense = window.devicePixelRatio || 1;
    this.canvas.width = Math.round(wide * dense);
    this.canvas.height = Math.round(high * dense);
    this.canvas.style.width = `${wide}px`;
    this.canvas.style.height = `${high}px`;
    this.canvas.dataset.columns = columns;
  }

  #box(number) {
    const { columns, width, height } = this.#layout;
    return { x: GAP + (number % columns) * (width + GAP), y: GAP + Math.floor(number / columns) * (height + GAP), width, height };
  }

  #draw() {
    if (this.#due) return;
    this.#due = true;
    requestAnimationFrame(() => {
      this.#due = false;
      if (this.#layout) this.#drawNow();
    });
  }

  #drawNow() {
    const pen = this.canvas.getContext("2d");
    const dense = window.devicePixelRatio || 1;
    pen.setTransform(dense, 0, 0, dense, 0, 0);
    pen.clearRect(0, 0, this.canvas.width, this.canvas.height);
    pen.imageSmoothingEnabled = this.#layout.width * dense < 1.9 * (this.#picture?.width ?? 1);
    pen.imageSmoothingQuality = "high";
    const looks = Object.fromEntries(["sunk", "line", "data", "quiet", "mark", "bad"].map((name) => [name, colour(name)]));
    this.#tiles.forEach((tile, number) => this.#drawTile(pen, tile, this.#box(number), looks));
  }

  #drawTile(pen, tile, box, looks) {
    pen.save();
    pen.globalAlpha = tile.state === "grace" ? 0.4 : 1;
    pen.beginPath();
    pen.roundRect(box.x, box.y, box.width, box.height, 3);
    pen.fillStyle = looks.sunk;
    pen.fill();
    pen.clip();
    if (tile.state === "grace") pen.filter = "grayscale(1)";
    const part = this.kind === "image" ? this.cut(tile.slot) : null;
    if (part) pen.drawImage(part.bitmap, part.x, part.y, part.width, part.height, box.x, box.y, box.width, box.height);
    const values = this.#numbers?.values.get(tile.slot);
    if (values) drawStrip(pen, box, values, this.kind, this.#numbers.bounds, looks);
    pen.restore();
    const marked = tile.slot === this.#mark;
    if (!marked && tile.state !== "stalled") {
      pen.lineWidth = 1; // pictures may be as light or as dark as the page
      pen.strokeStyle = looks.line;
      pen.beginPath();
      pen.roundRect(box.x - 0.5, box.y - 0.5, box.width + 1, box.height + 1, 3.5);
      pen.stroke();
      return;
    }
    pen.lineWidth = 2.5;
    pen.strokeStyle = marked ? looks.mark : looks.bad;
    pen.beginPath();
    pen.roundRect(box.x - 1.5, box.y - 1.5, box.width + 3, box.height + 3, 4);
    pen.stroke();
  }

  #at(event) {
    if (!this.#layout) return null;
    const { columns, width, height } = this.#layout;
    const frame = this.canvas.getBoundingClientRect();
    const column = Math.floor((event.clientX - frame.left - GAP / 2) / (width + GAP));
    const row = Math.floor((event.clientY - frame.top - GAP / 2) / (height + GAP));
    if (column < 0 || column >= columns || row < 0) return null;
    return this.#tiles[row * columns + column] ?? null;
  }

  #click(event) {
    const tile = this.#at(event);
    if (tile) this.mark(tile.slot);
  }

  #point(event) {
    const tile = this.#at(event);
    this.canvas.title = tile ? [`environment ${tile.environment}`, tile.task, tile.client].filter(Boolean).join(" · ") : "";
  }
}
