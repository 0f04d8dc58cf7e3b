// "Why this": the page the pin came on is asked for again, with explain=true, and its X-ray
// is shown as one pin's story and as the pipeline's.

import { dialog } from "./dialog.js";
import { el } from "./dom.js";
import { ago, millis, short } from "./format.js";
import { getFeed } from "./api.js";
import { titleOf } from "./card.js";
import { bars, dropped, keyValues, sources, stages } from "./xray.js";

// Explaining runs the pipeline again, and by then the pin has often been recorded as seen.
const GONE = "The page was asked for again to explain it, and this pin is no longer in it: "
  + "it has been seen or acted on since. What follows is the pipeline as it runs now.";

export function whyPanel() {
  const box = dialog({ testid: "why-panel", name: "Why this pin", className: "why" });
  let asking = null;

  async function open(entry) {
    asking?.abort();
    const mine = (asking = new AbortController());
    box.show(...head(entry), el("p", { class: "quiet loading", role: "status" }, "Reading the X-ray of this page…"));
    let answer;
    try {
      answer = await explain(entry.page, mine.signal);
    } catch (error) {
      if (!mine.signal.aborted && box.open) box.show(...head(entry), trouble(error, () => open(entry)));
      return;
    }
    if (!mine.signal.aborted && box.open) box.show(...head(entry), ...story(entry, answer));
  }

  return { open, get isOpen() { return box.open; }, close: box.close };
}

/** Kept with the page: every card of a page has the same X-ray. */
async function explain(page, signal) {
  page.explained ??= await getFeed(page.feed, { user: page.user, cursor: page.cursor, limit: page.limit, explain: true, signal });
  return page.explained;
}

function head({ item }) {
  return [
    el("p", { class: "overline" }, "Why this"),
    el("h2", { dir: "auto" }, titleOf(item)),
    el("p", { class: "why-reason", dir: "auto", "data-testid": "why-reason" }, item.reason || "The server gave no reason."),
  ];
}

function trouble(error, retry) {
  return el("div", { class: "state-error", role: "alert", "data-testid": "why-error" }, el("p", {}, error.message),
    el("button", { type: "button", class: "button", onclick: retry }, "Try again"));
}

function story({ item, page }, answer) {
  const xray = answer.xray;
  if (!xray) return [el("p", { class: "quiet" }, "The server sent no X-ray for this page.")];
  const mine = xray.pins?.[item.pin];
  const { stages: run, pins, query, ...rest } = xray;
  return [
    mine ? null : el("p", { class: "note" }, GONE),
    mine?.dropped ? el("p", { class: "note" }, `Asked again just now, it would be left out at “${mine.dropped.stage}”: ${mine.dropped.reason}.`) : null,
    section("How it was found", sources(mine?.sources ?? [{ source: item.source, board: item.board?.id, score: item.score }])),
    mine?.scores ? section("Scores", bars(mine.scores)) : null,
    mine?.features ? section("Features", keyValues(mine.features)) : null,
    mine ? more(mine) : null,
    section("The pipeline", stages(run ?? [])),
    query ? section("What it started from", keyValues(query)) : null,
    section("What was left out", dropped(pins ?? {})),
    ...Object.entries(rest).map(([name, value]) => section(name, keyValues({ [name]: value }))),
    section("This page", keyValues({
      feed: page.feed, model: page.model, took: millis(page.took_ms), score: short(item.score), saved: item.at_ms ? ago(item.at_ms) : "–",
      pin: item.pin, request: page.request_id, "explained by": answer.request_id, degraded: page.degraded.length ? page.degraded : "nothing",
    })),
  ].filter(Boolean);
}

/** Keys of a pin's X-ray that this page does not know yet are still shown. */
function more({ sources: _s, scores: _c, features: _f, dropped: _d, ...rest }) {
  return Object.keys(rest).length ? section("More", keyValues(rest)) : null;
}

function section(title, ...content) {
  return el("section", { class: "why-section" }, el("h3", {}, title.replaceAll("_", " ")), ...content);
}
