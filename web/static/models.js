// The models page: which model ranks the feeds, what else is in the registry, how each did in
// training, and how the one that serves is doing. Asks every few seconds while it is looked at.

import { byId, el } from "./dom.js";
import { bytes, count, millis, sentence, short } from "./format.js";
import { cacheHits, percent } from "./gauges.js";
import { getHealth, getModels } from "./api.js";
import { facts, idOf, modelCard, stateOf } from "./model_card.js";

const EVERY_MS = 3000;
const PATIENCE_MS = 5000;
const COMMANDS = [
  ["feedmesh model train", "builds the next version from everything in the log, each row with what was known at its moment, and writes its report"],
  ["feedmesh model push FOLDER", "takes in a model that was trained elsewhere"],
  ["feedmesh model list", "says at the command line what this page says"],
  ["feedmesh model promote NAME@VERSION", "has it rank the feeds from the next request on; no request is dropped"],
];
const ROLLBACK = "goes back to the one promoted before";

let shown = ""; // the answer that the cards show
let timer = 0;
let running = false;

async function poll() {
  if (running) return;
  running = true;
  const signal = AbortSignal.timeout(PATIENCE_MS);
  const [models, health] = await Promise.allSettled([getModels(signal), getHealth(signal)]);
  running = false;
  if (models.status === "fulfilled") paint(models.value);
  else lost(models.reason);
  shards(health.status === "fulfilled" ? health.value.processes.filter((p) => p.service === "scorpion") : []);
  if (!document.hidden) timer = setTimeout(poll, EVERY_MS);
}

document.addEventListener("visibilitychange", () => {
  clearTimeout(timer);
  if (!document.hidden) poll();
});

function paint({ models, rollback }) {
  delete document.body.dataset.stale;
  const sorted = [...models].sort((a, b) => a.name.localeCompare(b.name) || b.version - a.version);
  banner(sorted);
  byId("rollback").textContent = rollback ? `goes back to ${rollback}` : ROLLBACK;
  if (JSON.stringify(sorted) === shown) return; // what is open stays open, and what is selected selected
  shown = JSON.stringify(sorted);
  const open = new Set([...document.querySelectorAll(".model details[open]")].map((node) => node.dataset.key));
  const promoted = sorted.find((model) => model.promoted);
  byId("models").replaceChildren(...(sorted.length ? sorted.map((model) => modelCard(model, promoted)) : [nothing()]));
  document.querySelectorAll(".model details").forEach((node) => { node.open = open.has(node.dataset.key); });
}

function banner(models) {
  const promoted = models.find((model) => model.promoted), refused = models.filter((model) => model.problem);
  const problems = refused.map((model) => `${idOf(model)} is refused: ${model.problem}`);
  if (!models.length) return say("waiting", "No model yet", "Until one is promoted, feeds are ranked by the light score.");
  if (!promoted) return say("bad", "No model is promoted", ["Feeds are ranked by the light score.", ...problems].join(" "));
  if (refused.length) return say("bad", `${idOf(promoted)} ranks the feeds`, problems.join(" "));
  if (stateOf(promoted) === "waiting") return say("waiting", `${idOf(promoted)} is promoted`, "Not every shard of scorpion has loaded it yet.");
  say("good", `${idOf(promoted)} ranks the feeds`, facts(promoted));
}

/** What was known stays, faded: it may be true no more. */
function lost(error) {
  if (shown) document.body.dataset.stale = "true";
  say("lost", "The models could not be asked for", sentence(error.message));
}

function say(state, text, more) {
  byId("banner").dataset.state = state;
  // The banner is a live region: only a change of words may speak.
  if (byId("banner-text").textContent !== text) byId("banner-text").textContent = text;
  if (byId("banner-more").textContent !== more) byId("banner-more").textContent = more;
}

function nothing() {
  return el("div", { class: "empty", "data-testid": "no-models" },
    el("h2", {}, "There is nothing in the registry"),
    el("p", {}, "With some history loaded, type"),
    el("p", {}, el("code", {}, "feedmesh model train")),
    el("p", { class: "quiet" }, "It builds the first model by replaying what was loaded, and says how to promote it. This page shows it as soon as it is there."));
}

/** Of each process that scores: how busy it is, and whether its cache holds what is asked for. */
function shards(processes) {
  const box = byId("shards");
  box.hidden = !processes.length;
  if (box.hidden) return;
  const heads = ["shard", "calls/s", "P99", "cache hits", "cached pins", "cache", "memory"];
  box.replaceChildren(el("h2", {}, "Where they serve"),
    el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Shards of scorpion" }, el("table", {},
      el("thead", {}, el("tr", {}, heads.map((head) => el("th", { scope: "col" }, head)))),
      el("tbody", {}, processes.map(shard)))));
}

function shard({ shard: number, ready, why, qps, p99_ms, gauges, rss_bytes }) {
  const cells = [short(qps), millis(p99_ms), percent(cacheHits(gauges)), count(gauges.cache_rows), bytes(gauges.cache_bytes), bytes(rss_bytes)];
  return el("tr", { "data-testid": "model-shard" }, el("th", { scope: "row" }, ready ? `scorpion ${number}` : `scorpion ${number}: ${why}`),
    cells.map((cell) => el("td", {}, cell)));
}

byId("commands").append(...COMMANDS.flatMap(([typed, what]) => [el("dt", {}, el("code", {}, typed)), el("dd", {}, what)]),
  el("dt", {}, el("code", {}, "feedmesh model rollback")), el("dd", { id: "rollback" }, ROLLBACK));
poll();
