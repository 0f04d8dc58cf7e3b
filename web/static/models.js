// The models page: which model ranks the feeds, the others of the registry, how each did in
// training, and how the one that serves is doing. Asks every few seconds while it is looked at.

import { byId, el } from "./dom.js";
import { bytes, count, millis, sentence, short } from "./format.js";
import { cacheHits, percent } from "./gauges.js";
import { dialog } from "./dialog.js";
import { getHealth, getModels, promoteModel, rollbackModel } from "./api.js";
import { toast } from "./toast.js";
import { facts, idOf, modelCard, stateOf } from "./model_card.js";

const EVERY_MS = 3000;
const PATIENCE_MS = 5000;
const COMMANDS = [
  ["feedmesh model train", "builds the next version from everything in the log, each row with what was known at its moment, and writes its report"],
  ["feedmesh model push FOLDER", "takes in a model that was trained elsewhere"],
  ["feedmesh model list", "says at the command line what this page says"],
  ["feedmesh model promote NAME@VERSION", "has it rank the feeds from the next request on; no request is dropped"],
];
const SHARD_HEADS = ["shard", "calls/s", "P99", "cache hits", "cached pins", "cache", "memory"];
const ROLLBACK = "goes back to the one promoted before";

let shown = ""; // the answer that the cards show
let list = []; // its models
let before = null; // the version that a rollback would promote
const confirm = dialog({ testid: "confirm", name: "Confirm", className: "confirm" });
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

/** What the mesh makes of what it has learned so far, in a line; a bar while it is at work. */
const LEARNING = {
  off: () => "",
  waiting: ({ message }) => `No model is made yet: ${message}.`,
  running: ({ stage, since_ms }) => `A model is being made since ${new Date(since_ms).toLocaleTimeString()}: ${stage}. Until it serves, feeds are ranked as before.`,
  served: ({ model, message }) => `${model} was made and promoted: ${message}.`,
  declined: ({ model, message }) => `${model} was made and does not rank: ${message}.`,
  failed: ({ message }) => `No model could be made: ${message}`,
};

function learns(learning) {
  const box = byId("learning"), bar = byId("learning-bar"), says = learning && LEARNING[learning.state];
  const text = says ? says(learning) : "";
  box.hidden = !text;
  if (byId("learning-text").textContent !== text) byId("learning-text").textContent = text;
  bar.hidden = learning?.state !== "running";
  bar.value = learning?.fraction ?? 0;
}

function paint({ models, rollback, learning }) {
  delete document.body.dataset.stale;
  learns(learning);
  const sorted = [...models].sort((a, b) => a.name.localeCompare(b.name) || b.version - a.version);
  banner(sorted);
  byId("rollback").textContent = rollback ? `goes back to ${rollback}` : ROLLBACK;
  byId("roll-back").hidden = !rollback;
  before = rollback;
  if (JSON.stringify(sorted) === shown) return; // open parts stay open, and a selection stays selected
  shown = JSON.stringify(sorted);
  const open = new Set([...document.querySelectorAll(".model details[open]")].map((node) => node.dataset.key));
  list = sorted;
  cards();
  document.querySelectorAll(".model details").forEach((node) => { node.open = open.has(node.dataset.key); });
}

/** Each beside the version that was chosen to compare with, or the one that ranks the feeds. */
function cards() {
  const chosen = list.find((model) => idOf(model) === byId("compare").value) ?? list.find((model) => model.promoted);
  byId("models").replaceChildren(...(list.length ? list.map((model) => modelCard(model, model === chosen ? null : chosen, promote)) : [nothing()]));
  const names = list.filter((model) => Object.keys(model.metrics).length).map(idOf), now = chosen ? idOf(chosen) : "";
  byId("tools").hidden = names.length < 2 && !before;
  byId("compare").replaceChildren(...names.map((name) => el("option", { value: name, selected: name === now }, name)));
  byId("compare").closest("label").hidden = names.length < 2;
}

/** What is asked before the feeds change: "yes" does it. A refusal is shown, and may be overruled where it is a judgement. */
function ask(title, text, run) {
  const said = el("p", { role: "status" }), yes = el("button", { type: "button", class: "button", "data-testid": "confirm-yes" }, title);
  yes.addEventListener("click", async () => {
    yes.disabled = true;
    try {
      const { model } = await run(yes.dataset.force === "true");
      confirm.close();
      toast(`${model} ranks the feeds`);
      shown = "";
      clearTimeout(timer);
      poll();
    } catch (error) {
      said.className = "bad";
      said.textContent = sentence(error.message);
      yes.disabled = false;
      if (!/--force/.test(error.message)) return;
      yes.dataset.force = "true";
      yes.textContent = "Promote it all the same";
    }
  });
  confirm.show(el("h2", {}, `${title}?`), el("p", {}, text), said,
    el("p", { class: "confirm-choice" }, yes, el("button", { type: "button", class: "button plain", onclick: () => confirm.close() }, "Cancel")));
}

function promote(model) {
  const now = list.find((each) => each.promoted);
  ask(`Promote ${idOf(model)}`, `It ranks all feeds from the next request on${now ? `, in place of ${idOf(now)}` : ""}. You can roll it back.`,
    (force) => promoteModel(model, force));
}

byId("roll-back").addEventListener("click", () =>
  ask(`Roll back to ${before}`, `${before} ranks all feeds again from the next request on.`, rollbackModel));
byId("compare").addEventListener("change", cards);

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
  box.replaceChildren(el("h2", {}, "Where they serve"),
    el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Shards of scorpion" }, el("table", {},
      el("thead", {}, el("tr", {}, SHARD_HEADS.map((head) => el("th", { scope: "col" }, head)))),
      el("tbody", {}, processes.map(shard)))));
}

function shard({ shard: number, ready, why, qps, p99_ms, gauges, rss_bytes }) {
  const cells = [short(qps), millis(p99_ms), percent(cacheHits(gauges)), count(gauges.cache_rows), bytes(gauges.cache_bytes), bytes(rss_bytes)];
  return el("tr", { "data-testid": "model-shard" }, el("th", { scope: "row" }, ready ? `scorpion ${number}` : `scorpion ${number}: ${why}`),
    cells.map((cell, i) => el("td", { "data-head": SHARD_HEADS[i + 1] }, cell)));
}

byId("commands").append(...COMMANDS.flatMap(([typed, what]) => [el("dt", {}, el("code", {}, typed)), el("dd", {}, what)]),
  el("dt", {}, el("code", {}, "feedmesh model rollback")), el("dd", { id: "rollback" }, ROLLBACK));
poll();
