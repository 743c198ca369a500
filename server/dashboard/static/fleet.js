// The fleet: one row for each client, sortable by any column. The time a client thinks finds the slow machine.

import { duration, element, keep, milliseconds, number, rate, text } from "./format.js";

const SLOW = 2; // times the median time to think
const ENOUGH = 3; // clients: below this there is no median to speak of

// Key, title, what stands in a cell, whether it is text; what is text sorts upwards first.
const COLUMNS = [
  ["client", "client", (row) => row.client, true],
  ["host", "host", (row) => row.host ?? "", true],
  ["task", "task", (row) => row.task ?? "", true],
  ["environments", "envs", (row) => number(row.environments), false],
  ["steps_per_s", "steps/s", (row) => rate(row.steps_per_s), false],
  ["think_ms", "think", (row) => milliseconds(row.think_ms), false],
  ["rtt_ms", "round trip", (row) => milliseconds(row.rtt_ms), false],
  ["state", "state", (row) => row.state ?? "", true],
  ["since_s", "since", (row) => duration(row.since_s), false],
  ["reconnects", "reconnects", (row) => number(row.reconnects), false],
  ["last_seen_s", "last seen", (row) => `${rate(row.last_seen_s)} s`, false],
];
const OPTIONAL = ["host", "task", "rtt_ms"]; // shown where any client has one

/** The table. */
export class Fleet {
  #rows = [];
  #keys = "";

  /** `onPick(client)` is called when a client's name is clicked. */
  constructor(onPick) {
    this.onPick = onPick;
    this.table = document.getElementById("fleet");
    this.count = document.getElementById("fleet-count");
    this.sortedBy = "client";
    this.downwards = false;
  }

  /** Shows what the server says. */
  show(rows) {
    this.#rows = rows;
    const environments = rows.reduce((sum, row) => sum + (row.environments ?? 0), 0);
    text(this.count, rows.length ? `${number(rows.length)} client${rows.length === 1 ? "" : "s"}, ${number(environments)} environments` : "nobody yet");
    this.#draw();
  }

  #draw() {
    const columns = COLUMNS.filter(([key]) => !OPTIONAL.includes(key) || this.#rows.some((row) => row[key] ?? null));
    this.#drawHead(columns);
    const body = this.table.tBodies[0];
    keep(body, this.#rows.length, () => element("tr"));
    const limit = slowFrom(this.#rows);
    this.#sorted().forEach((row, i) => this.#fill(body.rows[i], columns, row, limit));
  }

  #drawHead(columns) {
    const keys = columns.map(([key]) => key).join();
    if (keys !== this.#keys) {
      this.#keys = keys;
      this.table.tBodies[0].replaceChildren();
      const line = element("tr");
      for (const [key, title, , isText] of columns) {
        const [head, button] = [element("th", isText ? "text" : ""), element("button", "", title)];
        head.scope = "col";
        head.dataset.key = key;
        button.type = "button";
        button.addEventListener("click", () => this.#sortBy(key, isText));
        head.append(button);
        line.append(head);
      }
      this.table.tHead.replaceChildren(line);
    }
    for (const head of this.table.tHead.rows[0].cells) {
      if (head.dataset.key !== this.sortedBy) head.removeAttribute("aria-sort");
      else head.setAttribute("aria-sort", this.downwards ? "descending" : "ascending");
    }
  }

  #sortBy(key, isText) {
    this.downwards = this.sortedBy === key ? !this.downwards : !isText;
    this.sortedBy = key;
    this.#draw();
  }

  #sorted() {
    const [key, sign] = [this.sortedBy, this.downwards ? -1 : 1];
    const compare = (a, b) => {
      const [x, y] = [a[key] ?? null, b[key] ?? null];
      if (x === null || y === null) return (x === null) - (y === null); // what is not known stands last
      return typeof x === "string" ? sign * x.localeCompare(y, "en", { numeric: true }) : sign * (x - y);
    };
    return [...this.#rows].sort((a, b) => compare(a, b) || String(a.client).localeCompare(String(b.client), "en", { numeric: true }));
  }

  #fill(line, columns, row, limit) {
    line.className = [row.think_ms > limit ? "slow" : "", row.state === "grace" ? "away" : "", row.state === "stalled" ? "stalled" : ""].filter(Boolean).join(" ");
    keep(line, columns.length, () => element("td"));
    columns.forEach(([key, , show, isText], i) => {
      const cell = line.cells[i];
      cell.className = [isText ? "text" : "", key === "think_ms" ? "think" : ""].filter(Boolean).join(" ");
      if (key !== "client") text(cell, show(row));
      else this.#fillName(cell, row.client);
    });
  }

  #fillName(cell, client) {
    let button = cell.querySelector("button");
    if (!button) {
      button = element("button");
      button.type = "button";
      button.addEventListener("click", () => this.onPick(button.textContent));
      cell.replaceChildren(button);
    }
    text(button, client);
    button.title = `show the environments of ${client}`;
  }
}

/** Beyond how many milliseconds of thinking a client is called slow. */
export function slowFrom(rows) {
  const times = rows.map((row) => row.think_ms).filter((time) => Number.isFinite(time)).sort((a, b) => a - b);
  return times.length < ENOUGH ? Infinity : SLOW * times[Math.floor((times.length - 1) / 2)];
}
