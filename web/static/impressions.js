// Real impressions: a card counts once at least half of it (or, for a card taller than
// the window, half the window) has been in view for one whole second.

import { postEvents } from "./api.js";

const DWELL_MS = 1000;
const EVERY_MS = 2000;
const AT_MOST = 200; // events a POST: keeps a last keepalive under the browser's 64 KiB
const WAITING = 1000; // beyond this the server has been gone too long to catch up with

export class Impressions {
  constructor() {
    this.queue = [];
    this.timers = new Map(); // card -> its dwell timer
    this.event = new WeakMap(); // card -> what to report once seen
    this.watch = new IntersectionObserver((entries) => entries.forEach((e) => this.moved(e)),
      { threshold: [0, 0.25, 0.5, 0.75, 1] });
    setInterval(() => this.flush(), EVERY_MS);
    // pagehide alone is not enough: a phone may kill a hidden page without one.
    addEventListener("pagehide", () => this.flush(true));
    document.addEventListener("visibilitychange", () => {
      if (document.visibilityState === "hidden") this.leave();
    });
  }

  add(card, event) {
    this.event.set(card, event);
    this.watch.observe(card);
  }

  drop(card) {
    clearTimeout(this.timers.get(card));
    this.timers.delete(card);
    this.watch.unobserve(card);
  }

  clear() {
    for (const timer of this.timers.values()) clearTimeout(timer);
    this.timers.clear();
    this.watch.disconnect();
    this.flush();
  }

  moved({ target, intersectionRatio, intersectionRect, rootBounds }) {
    const half = intersectionRatio >= 0.5 || (rootBounds && intersectionRect.height >= rootBounds.height * 0.5);
    if (!half) {
      clearTimeout(this.timers.get(target));
      this.timers.delete(target);
    } else if (!this.timers.has(target)) {
      this.timers.set(target, setTimeout(() => this.seen(target), DWELL_MS));
    }
  }

  seen(card) {
    if (document.visibilityState === "hidden") return;
    this.drop(card); // once a card
    card.dataset.seen = "true";
    this.queue.push(this.event.get(card));
  }

  leave() {
    for (const [card, timer] of this.timers) {
      clearTimeout(timer);
      this.watch.unobserve(card);
      this.watch.observe(card); // looked at afresh when the page is back
    }
    this.timers.clear();
    this.flush(true);
  }

  async flush(keepalive = false) {
    const batch = this.queue.splice(0, AT_MOST);
    if (!batch.length) return;
    try {
      await postEvents(batch, { keepalive });
    } catch (error) {
      // Ids were given on the first try, so a batch that did arrive is not counted twice.
      if (error.passing ?? true) this.queue.unshift(...batch.slice(0, WAITING - this.queue.length));
      else console.warn("impressions refused:", error.message);
    }
  }
}
