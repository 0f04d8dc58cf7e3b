// "Why this": the page the pin came on is asked for again, with explain=true, and its X-ray
// is shown as one pin's story and as the pipeline's.

import { dialog } from "./dialog.js";
import { el } from "./dom.js";
import { ago, millis, words } from "./format.js";
import { blend, interests, NONE, walk } from "./origins.js";
import { getFeed } from "./api.js";
import { titleOf } from "./card.js";
import { bars, dropped, features, keyValues, sources, stages } from "./xray.js";

// Explaining runs the pipeline again, and by then the pin has often been recorded as seen.
const GONE = "You have met this pin since it was shown, so a page asked for now leaves it out. "
  + "What follows is the pipeline as it runs now.";
const MET = ["seen", "already_seen", "shown_before"]; // reasons and stages of leaving out what was met

/** names.pin(id) and names.board(id) are titles that the page knows. */
export function whyPanel(names) {
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
    if (!mine.signal.aborted && box.open) box.show(...head(entry), ...story(entry, answer, names));
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
  return el("div", { class: "state-error", role: "alert", "data-testid": "why-error" }, el("p", {}, error.plain ?? error.message),
    el("button", { type: "button", class: "button", onclick: retry }, "Try again"));
}

function story({ item, page }, answer, names) {
  const xray = answer.xray;
  if (!xray) return [el("p", { class: "quiet" }, "The server sent no X-ray for this page.")];
  const mine = xray.pins?.[item.pin];
  const { stages: run, pins, query, walk: walked, interests: looked, blend: blended, ranking, ...rest } = xray;
  // A pin left out before it was ranked has no scores of its own any more: those it was shown with stand in.
  const ranked = Object.keys(mine?.scores ?? {}).length > 0;
  const led = (by) => (mine?.sources ?? []).map((source) => source[by]).filter((id) => id && id !== NONE);
  return [
    note(mine),
    section("How it was found", sources(ranked ? found(mine, item, xray, names) : [{ source: item.source, board: boardOf(item) }])),
    section("Scores", ranked ? bars(mine.scores, Object.values(pins).map((pin) => pin.scores ?? {}))
      : bars({ "when shown": item.score }, page.scores.map((score) => ({ "when shown": score }))), ranked ? by(ranking) : null),
    mine?.slot ? section("Its place", place(mine.slot)) : null,
    Object.keys(mine?.features ?? {}).length ? section("Features", features(mine.features)) : null,
    ranked ? more(mine) : null,
    walked?.seeds?.length ? section("The walk", ...walk(walked, led("seed"), names)) : null,
    looked?.length ? section("The interests", ...interests(looked, led("interest"))) : null,
    blended?.length ? section("The blend", blend(blended)) : null,
    ranking ? section("What ranked it", keyValues(ranking)) : null,
    section("The pipeline", stages(run ?? [])),
    query ? section("What it started from", keyValues(query)) : null,
    section("What was left out", dropped(pins ?? {})),
    ...Object.entries(rest).map(([name, value]) => section(name, keyValues({ [name]: value }))),
    section("This page", keyValues({
      feed: page.feed, model: page.model, took: millis(page.took_ms), saved: item.at_ms ? ago(item.at_ms) : "–",
      pin: item.pin, request: page.request_id, "explained by": answer.request_id, degraded: page.degraded.length ? page.degraded : "nothing",
    })),
  ].filter(Boolean);
}

/** Whose score the final one is. */
function by(ranking) {
  if (!ranking?.model) return null;
  return el("p", { class: "quiet score-of", "data-testid": "why-model" },
    ranking.model === "light" ? "The final score is the light score: no model ranked this page." : `The final score is that of the model ${ranking.model}.`);
}

const place = ({ position, source, ...rest }) =>
  keyValues({ "place on the page": Number.isFinite(position) ? position + 1 : null, "whose turn": source ? words(source) : null, ...rest });

function note(mine) {
  if (mine && !mine.dropped) return null;
  const { stage, reason } = mine?.dropped ?? {};
  const met = !mine || MET.includes(stage) || MET.includes(reason);
  return el("p", { class: "note", "data-testid": "why-note" }, met ? GONE
    : `A page asked for now would leave it out at “${words(stage)}”: ${reason}.`);
}

const boardOf = ({ board }) => board && (board.title || board.id);

/** Where it came from, with what led there by name, and without a score or weight that stands under “Scores” again. */
function found({ sources: list, scores }, item, { walk: walked, interests: looked }, names) {
  const seed = (id) => walked?.seeds?.find((each) => each.pin === id)?.title || names.pin(id) || `pin ${id}`;
  const interest = (id) => looked?.find((each) => each.interest === id)?.title || `interest ${id}`;
  const board = (id) => (id === item.board?.id ? boardOf(item) : names.board(id)) || id;
  const called = (id, name) => (id && id !== NONE ? name(id) : null);
  const shown = Object.values(scores);
  return list.map(({ board: b, seed: s, interest: i, score, weight, ...rest }) => ({ ...rest, board: called(b, board),
    "walked from": called(s, seed), interest: called(i, interest), weight: shown.includes(weight) ? null : weight, score: shown.includes(score) ? null : score }));
}

/** Keys of a pin's X-ray that this page does not know yet are still shown. */
function more({ sources: _s, scores: _c, features: _f, slot: _p, dropped: _d, ...rest }) {
  return Object.keys(rest).length ? section("More", keyValues(rest)) : null;
}

function section(title, ...content) {
  return el("section", { class: "why-section" }, el("h3", {}, title.replaceAll("_", " ")), ...content);
}
