// One feed of one person, page after page. It knows when to ask, when to wait and when to
// stop; the look of a page is not its business.
//
// States: "loading", "ready" (more can be asked), "waiting" (asks again by itself, later), "end"
// and "error".

import { ApiError, getFeed } from "./api.js";

const PAGE = 25;
const EMPTY_AT_MOST = 4; // pages in a row in which everything was already shown
const RETRY_MS = [2000, 4000, 8000, 15000, 30000];
const WAIT_MS = [2000, 4000, 8000]; // for fresh pins, while the mesh answers with what it has

export class Stream {
  /** page(items, page) and state(name, detail) are called only while the stream is running. */
  constructor({ user, feed, page, state }) {
    Object.assign(this, { user, feed, onPage: page, onState: state });
    this.cursor = null;
    this.pages = 0;
    this.empty = 0;
    this.failures = 0;
    this.name = "ready";
    this.aborter = new AbortController();
  }

  stop() {
    clearTimeout(this.timer);
    this.aborter.abort();
  }

  get stopped() { return this.aborter.signal.aborted; }

  async more() {
    if (this.stopped || this.name === "loading" || this.name === "end") return;
    clearTimeout(this.timer);
    this.become("loading", { first: this.pages === 0 });
    const asked = { feed: this.feed, user: this.user, cursor: this.cursor, limit: PAGE };
    let answer;
    try {
      answer = await getFeed(this.feed, { ...asked, signal: this.aborter.signal });
    } catch (error) {
      if (!this.stopped) this.failed(error);
      return;
    }
    if (!this.stopped) this.arrived(asked, answer);
  }

  arrived(asked, answer) {
    const items = answer.items ?? [];
    this.failures = 0;
    this.pages += 1;
    this.cursor = answer.cursor ?? null;
    const { request_id, took_ms, model, degraded = [] } = answer;
    const scores = items.map((item) => item.score);
    const shown = this.onPage(items, { ...asked, request_id, took_ms, model, scores, degraded: degraded ?? [] });
    this.empty = shown ? 0 : this.empty + 1;
    if (!shown && (degraded ?? []).includes("fallback")) {
      // Nothing new while a part of the mesh is away: look again soon, however far one scrolls meanwhile.
      const wait = WAIT_MS[Math.min(this.empty - 1, WAIT_MS.length - 1)];
      this.again(wait);
      this.become("waiting", { wait });
    } else if (!this.cursor || this.empty >= EMPTY_AT_MOST) this.become("end");
    else if (shown) this.become("ready");
    else {
      this.name = "ready"; // nothing on this page was new: ask on without a flicker
      this.more();
    }
  }

  failed(error) {
    const known = error instanceof ApiError;
    if (!known) console.error(error);
    const wait = known && error.passing ? RETRY_MS[Math.min(this.failures, RETRY_MS.length - 1)] : null;
    this.failures += 1;
    if (wait) this.again(wait);
    if (known) console.warn("feed:", error.status, error.message);
    this.become("error", { message: known ? error.plain : "This page could not be shown.", wait, first: this.pages === 0,
      nobody: error.http === 400 && /\buser\b/.test(error.message) });
  }

  /** Asks again later, but not from a hidden tab. */
  again(ms) {
    this.timer = setTimeout(() => (document.hidden ? this.again(ms) : this.more()), ms);
  }

  become(name, detail = {}) {
    this.name = name;
    this.onState(name, detail);
  }
}
