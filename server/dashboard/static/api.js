// The way to the server: GET alone, the token in memory, and pollers that know when nobody looks or nobody answers.

const TIMEOUT_MS = 10000;
const FIRST_WAIT_MS = 1000;
const LONGEST_WAIT_MS = 15000;
const BUSY_WAIT_MS = 1000;

/** What the server said instead of an answer. */
class Refusal extends Error {
  constructor(status, waitMs) {
    super(`the server answered ${status}`);
    this.status = status;
    this.waitMs = waitMs;
  }
}

/** The server as this page sees it. */
export class Connection {
  #token = null;
  #failures = 0;

  /** `onChange(connection)` is called when the server goes away, tries fail, it comes back, or asks for a token. */
  constructor(onChange) {
    this.onChange = onChange;
    this.locked = false; // a token is asked for
    this.retryAt = 0;
    this.pollers = [];
    this.#takeToken();
    document.addEventListener("visibilitychange", () => this.wake());
    window.addEventListener("hashchange", () => {
      if (this.#takeToken()) this.unlock();
    });
  }

  /** Whether the last attempt got no answer. */
  get away() {
    return this.#failures > 0;
  }

  /** An answer: parsed JSON, or the response itself where `raw`. */
  async get(path, { raw = false } = {}) {
    const headers = this.#token === null ? {} : { Authorization: `Bearer ${this.#token}` };
    const response = await fetch(path, {
      headers, signal: AbortSignal.timeout(TIMEOUT_MS), cache: "no-store", credentials: "omit", redirect: "error",
    });
    if (!response.ok) {
      const seconds = Number(response.headers.get("Retry-After"));
      throw new Refusal(response.status, seconds > 0 ? seconds * 1000 : BUSY_WAIT_MS);
    }
    return raw ? response : await response.json();
  }

  /** Calls `step` every `intervalMs` while somebody looks. The poller that leads asks whether the server is back. */
  poll(intervalMs, step, { leads = false } = {}) {
    const poller = new Poller(this, intervalMs, step, leads);
    this.pollers.push(poller);
    poller.wake();
    return poller;
  }

  /** Begins again at once: the page is seen again, or there is a token. */
  wake() {
    for (const poller of this.pollers) poller.wake();
  }

  /** Takes a token and tries it. */
  unlock(token = null) {
    if (token !== null) this.#token = token;
    this.locked = false;
    this.onChange(this);
    this.wake();
  }

  /** A request was answered. */
  succeeded() {
    if (this.#failures === 0) return;
    this.#failures = 0;
    this.onChange(this);
    this.wake();
  }

  /** A request of a poller failed; returns how long that poller waits. */
  failed(error, leads) {
    if (error instanceof Refusal && error.status === 401) {
      if (!this.locked) {
        this.locked = true;
        this.onChange(this);
      }
      return BUSY_WAIT_MS;
    }
    // Busy, or not yet able to answer that one question: the others go on.
    if (!leads) return error instanceof Refusal ? error.waitMs : BUSY_WAIT_MS;
    this.#failures += 1;
    const waitMs = Math.min(FIRST_WAIT_MS * 2 ** (this.#failures - 1), LONGEST_WAIT_MS) * (0.9 + 0.2 * Math.random());
    this.retryAt = performance.now() + waitMs;
    this.onChange(this);
    return waitMs;
  }

  /** From the fragment, which no server and no log sees; it leaves the address bar as well. */
  #takeToken() {
    const token = new URLSearchParams(location.hash.slice(1)).get("token");
    if (token === null) return false;
    this.#token = token;
    history.replaceState(null, "", location.pathname + location.search);
    return true;
  }
}

/** One question asked again and again, never twice at a time. */
class Poller {
  #timer = 0;
  #running = false;

  constructor(connection, intervalMs, step, leads) {
    this.connection = connection;
    this.intervalMs = intervalMs;
    this.step = step;
    this.leads = leads;
    this.stopped = false;
  }

  /** Asks now unless an answer is awaited, nobody looks, or it was stopped. */
  wake() {
    if (this.#running) return;
    clearTimeout(this.#timer);
    this.#timer = 0;
    this.#turn();
  }

  stop() {
    this.stopped = true;
  }

  start() {
    this.stopped = false;
    this.wake();
  }

  async #turn() {
    const { connection } = this;
    if (document.hidden || this.stopped || connection.locked) return; // `wake` begins again
    if (connection.away && !this.leads) return;
    const begun = performance.now();
    let waitMs = this.intervalMs;
    this.#running = true;
    try {
      await this.step();
      if (this.leads) connection.succeeded();
    } catch (error) {
      waitMs = connection.failed(error, this.leads);
      if (!(error instanceof Refusal || error instanceof TypeError || error instanceof DOMException)) throw error;
    } finally {
      this.#running = false;
      const passed = performance.now() - begun;
      this.#timer = setTimeout(() => this.#turn(), Math.max(waitMs - passed, 10));
    }
  }
}
