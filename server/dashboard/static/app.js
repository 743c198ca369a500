// Puts the page together: asks the server, hands answers to the panels, listens to keys and buttons.

import { Connection } from "./api.js";
import { Curves } from "./curves.js";
import { Fleet } from "./fleet.js";
import { duration, fillPairs, number, offer, rate, text } from "./format.js";
import { listen } from "./keys.js";
import { Mosaic } from "./mosaic.js";
import { Verdict } from "./verdict.js";
import { Watch } from "./watch.js";

const [PICTURE_MS, WATCH_MS, STATE_MS, FLEET_MS, CURVES_MS] = [125, 250, 1000, 1000, 5000];
const LARGE_PICTURE = 500_000; // pixels
const LATE_MS = 5000;
const LONGEST_LIST = 4000; // characters of slots in an address
const GREEDY = "greedy";
const CLIENT = "client ";

const find = (id) => document.getElementById(id);
const watch = new Watch();
const verdict = new Verdict();
const curves = new Curves();
const fleet = new Fleet((client) => choose(CLIENT + client));
const mosaic = new Mosaic(find("mosaic"), find("view"), mark);
const connection = new Connection(showConnection);
const pollers = {};
let [state, paused, filter, part, turn, paintedMs] = [null, false, "all", 0, 0, 0];

/** Tiles of a state, each with what is known of its slot. */
function tilesOf({ tiles, tasks: names = [] }) {
  const { slots = [], environments = [], clients = [], greedy = [], states = [], tasks = [] } = tiles ?? {};
  return slots.map((slot, i) => ({
    slot, environment: environments[i] ?? slot, client: clients[i] ?? null, greedy: greedy[i] ?? false,
    state: states[i] ?? "live", task: names.length > 1 ? names[tasks[i]] ?? null : null,
  }));
}

/** How the observation array that is looked at is shown: "image", "vector" or "summary". */
function kindOf({ tiles }) {
  return (part ? tiles?.parts?.[part]?.kind : null) ?? tiles?.kind ?? "image";
}

function isShown(tile) {
  return filter === "all" || (filter === GREEDY ? tile.greedy : tile.client === filter.slice(CLIENT.length));
}

async function askState() {
  state = await connection.get("api/state");
  showHead();
  showTiles();
  verdict.show(state);
  showConnection();
}

function showHead() {
  const { totals = {}, rates = {}, gauges = {}, left_s: left = null } = state;
  text(find("run"), state.run || "seedbed");
  text(find("what"), [state.environment, state.algorithm].filter(Boolean).join(" · "));
  document.title = `${state.run || "seedbed"} · ${rate(rates.steps_per_s)} steps/s`;
  const pairs = [
    ["steps/s", rate(rates.steps_per_s)],
    ["return", number(gauges.return)],
    ["agent steps", number(totals.agent_steps)],
    ["episodes", number(totals.episodes)],
    ["updates", number(totals.updates)],
    ["lag", rate(gauges.lag)],
    ["loss", number(gauges.loss)],
    ["rows a batch", rate(rates.rows_per_batch)],
  ];
  if (left !== null) pairs.push(["left", duration(left)]);
  fillPairs(find("figures"), pairs);
}

function showTiles() {
  const all = tilesOf(state);
  offerFilters(all);
  offerParts(state.tiles?.parts ?? []);
  const shown = all.filter(isShown);
  const reason = emptyReason(all, shown);
  find("empty").hidden = !reason;
  find("mosaic").hidden = find("picture").hidden = Boolean(reason);
  text(find("empty"), reason);
  text(find("shown"), shown.length === all.length ? number(all.length) : `${number(shown.length)} of ${number(all.length)}`);
  showLegend(shown);
  if (!mosaic.tiles.length) paintedMs = performance.now(); // the first picture has its time
  mosaic.show(shown, kindOf(state), part ? {} : state.tiles ?? {});
  if (!shown.length) watch.clear();
}

function emptyReason(all, shown) {
  if (!all.length) return "No environment is connected yet.";
  if (!shown.length) return "No environment is of that choice now.";
  return state.frames_shown === false ? "This server shows numbers alone: what environments see stays private." : "";
}

function showLegend(shown) {
  const count = (kind) => shown.filter((tile) => tile.state === kind).length;
  const parts = [];
  if (count("grace")) parts.push(`grey: ${count("grace")} whose client is away and may come back`);
  if (count("stalled")) parts.push(`red: ${count("stalled")} that have not stepped for long`);
  find("legend").hidden = !parts.length;
  text(find("legend"), parts.join("; "));
}

function offerFilters(all) {
  const clients = [...new Set(all.map((tile) => tile.client).filter(Boolean))].sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
  const offers = [["all", "all"], ...(all.some((tile) => tile.greedy) ? [[GREEDY, "greedy only"]] : [])];
  for (const client of clients) offers.push([CLIENT + client, client]);
  if (filter.startsWith(CLIENT) && !clients.includes(filter.slice(CLIENT.length))) offers.push([filter, filter.slice(CLIENT.length)]);
  offer(find("filter"), offers, filter);
}

/** Where there are several arrays one of them is looked at. */
function offerParts(parts) {
  find("part-field").hidden = parts.length < 2;
  offer(find("part"), parts.map(({ name }, i) => [String(i), name]), String(part));
}

function choose(wanted) {
  filter = wanted;
  if (!state) return;
  offerFilters(tilesOf(state));
  find("filter").value = wanted;
  showTiles();
  pollers.picture.wake();
}

async function askPicture() {
  const shown = mosaic.tiles;
  if (!shown.length || state.frames_shown === false) return;
  const named = shown.map((tile) => tile.slot).join();
  const slots = filter === "all" || named.length > LONGEST_LIST ? "all" : named;
  if (mosaic.kind !== "image") {
    mosaic.fill(await connection.get(`api/bars?slots=${slots}&part=${part}`));
    paintedMs = performance.now();
    return;
  }
  turn += 1;
  const thinned = mosaic.pixels > LARGE_PICTURE && mosaic.marked !== null; // its tiles may lack pixels: the marked one is asked for alone
  if (thinned && turn % 2) {
    const { bitmap, layout } = await fetchPicture(mosaic.marked.slot);
    if (mosaic.marked?.slot === layout.slots[0]) watch.paint({ bitmap, x: 0, y: 0, width: layout.width, height: layout.height });
    bitmap.close();
    return;
  }
  const { bitmap, layout } = await fetchPicture(slots);
  mosaic.paint(bitmap, layout);
  paintedMs = performance.now();
  if (!thinned && mosaic.marked) watch.paint(mosaic.cut(mosaic.marked.slot));
}

/** A picture of slots, and how their tiles lie in it: "all" may be others by now than those of the last state. */
async function fetchPicture(slots) {
  const response = await connection.get(`api/mosaic.png?slots=${slots}&scale=1&part=${part}`, { raw: true });
  const layout = JSON.parse(response.headers.get("X-Seedbed-Tiles"));
  return { bitmap: await createImageBitmap(await response.blob()), layout };
}

async function askWatch() {
  const tile = mosaic.marked;
  if (!tile) return;
  const answer = await connection.get(`api/watch?slot=${tile.slot}`);
  if (mosaic.marked?.slot === tile.slot) watch.show(answer, part);
}

function mark(tile) {
  watch.begin(tile);
  const cut = mosaic.cut(tile.slot);
  if (cut) watch.paint(cut);
  pollers.watch?.wake();
}

function pause(wanted = !paused) {
  paused = wanted;
  paintedMs = performance.now();
  for (const poller of [pollers.picture, pollers.watch]) {
    if (paused) poller.stop();
    else poller.start();
  }
  find("pause").setAttribute("aria-pressed", String(paused));
  text(find("pause"), paused ? "Go on" : "Pause");
  showConnection();
}

function resize(size) {
  mosaic.size = size;
  for (const button of document.querySelectorAll("[data-size]")) button.setAttribute("aria-pressed", String(Number(button.dataset.size) === size));
  mosaic.arrange();
}

async function fullScreen() {
  if (document.fullscreenElement) await document.exitFullscreen();
  else await find("stage").requestFullscreen?.();
}

function showConnection() {
  const { away, locked } = connection;
  document.body.classList.toggle("away", away);
  const kinds = { starting: "away", draining: "paused", failed: "away", finished: "paused" };
  const phase = state?.phase ?? "connecting";
  const late = !paused && mosaic.tiles.length > 0 && state.frames_shown !== false && performance.now() - paintedMs > LATE_MS;
  const [kind, word] = away ? ["away", "no answer"] : paused ? ["paused", "paused"] : late ? ["paused", "pictures are late"] : [state ? kinds[phase] ?? "live" : "", phase === "serving" ? "live" : phase];
  find("phase").dataset.kind = kind;
  text(find("phase"), word);
  find("notice").hidden = !away;
  if (away) tellAway();
  if (locked && !find("login").open) askToken();
}

function tellAway() {
  const seconds = Math.max(0, Math.ceil((connection.retryAt - performance.now()) / 1000));
  const old = state ? " What is shown is what it said last." : "";
  text(find("notice"), `The server does not answer. Trying again ${seconds > 0 ? `in ${seconds} s` : "now"}.${old}`);
  clearTimeout(tellAway.timer);
  tellAway.timer = setTimeout(showConnection, 1000);
}

function askToken() {
  text(find("login-error"), find("token").value ? "The server refused that token." : "");
  find("token").value = "";
  find("login").showModal();
}

find("login-form").addEventListener("submit", (event) => {
  event.preventDefault();
  find("login").close();
  connection.unlock(find("token").value.trim());
});
find("login").addEventListener("cancel", (event) => event.preventDefault());
find("help-open").addEventListener("click", () => find("help").showModal());
find("filter").addEventListener("change", (event) => choose(event.target.value));
find("part").addEventListener("change", (event) => {
  part = Number(event.target.value);
  showTiles();
  pollers.picture.wake();
});
find("pause").addEventListener("click", () => pause());
find("full").addEventListener("click", fullScreen);
for (const button of document.querySelectorAll("[data-size]")) button.addEventListener("click", () => resize(Number(button.dataset.size)));
document.addEventListener("visibilitychange", () => {
  paintedMs = performance.now(); // nobody was late: nobody asked
});
document.addEventListener("fullscreenchange", () => {
  find("full").setAttribute("aria-pressed", String(Boolean(document.fullscreenElement)));
  mosaic.arrange();
});
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => mosaic.arrange());
listen({
  move: (right, down) => mosaic.move(right, down), pause, fullScreen, resize, help: () => find("help").showModal(),
});

pollers.state = connection.poll(STATE_MS, askState, { leads: true });
pollers.picture = connection.poll(PICTURE_MS, askPicture);
pollers.watch = connection.poll(WATCH_MS, askWatch);
pollers.fleet = connection.poll(FLEET_MS, async () => fleet.show(await connection.get("api/fleet")));
pollers.curves = connection.poll(CURVES_MS, async () => {
  const answer = await connection.get("api/curves");
  curves.show(answer.columns);
});
