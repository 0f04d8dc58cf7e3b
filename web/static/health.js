// The health page: asks for a report every second while it is looked at, and says so loudly
// when no report comes. Old numbers are never shown as if they were new.

import { byId, el } from "./dom.js";
import { count, duration, millis, plural, sentence, short } from "./format.js";
import { getHealth } from "./api.js";
import { ProcessCard } from "./process_card.js";
import { nameOf, ProcessLog, stateOf } from "./process_log.js";

const EVERY_MS = 1000;
const PATIENCE_MS = 3000; // a report slower than this is a failure too
const log = new ProcessLog();
const cards = new Map(); // key -> ProcessCard
const groups = new Map(); // service -> {node, summary, grid}

let report = null;
let reportAt = 0; // by this page's clock: the server's may differ
let failure = null;
let timer = 0;
let running = false;

async function poll() {
  if (running) return;
  running = true;
  const began = Date.now();
  try {
    report = await getHealth(AbortSignal.timeout(PATIENCE_MS));
    reportAt = Date.now();
    failure = null;
    log.take(report, reportAt);
  } catch (error) {
    failure = error.name === "TimeoutError" ? `no report within ${PATIENCE_MS / 1000} s` : error.message;
  } finally {
    running = false;
  }
  render();
  if (!document.hidden) timer = setTimeout(poll, Math.max(200, EVERY_MS - (Date.now() - began)));
}

document.addEventListener("visibilitychange", () => {
  clearTimeout(timer);
  if (!document.hidden) poll();
});

function render() {
  const now = Date.now(), list = log.groups();
  banner(now, list.flatMap(([, processes]) => processes));
  if (!report) return;
  document.body.dataset.stale = String(Boolean(failure));
  if (!failure) paint(now, list);
  freshness(report.freshness ?? []);
  filter();
}

function paint(now, list) {
  const style = getComputedStyle(document.documentElement);
  const colours = { line: style.getPropertyValue("--accent").trim(), bad: style.getPropertyValue("--bad").trim() };
  const fresh = new Map((report.freshness ?? []).map((f) => [f.view, f]));
  const alive = new Set();
  for (const [service, processes] of list) {
    const group = groups.get(service) ?? addGroup(service);
    for (const process of processes) {
      alive.add(process.key);
      const card = cards.get(process.key) ?? addCard(process, group);
      card.update(now, fresh.get(service), colours);
    }
    summarise(group, processes);
    group.node.classList.toggle("not-ready", processes.some((p) => stateOf(p) !== "ready"));
  }
  for (const [key, card] of cards) {
    if (alive.has(key)) continue;
    card.node.remove();
    cards.delete(key);
  }
}

function addGroup(service) {
  const summary = el("p", { class: "quiet number" }), grid = el("div", { class: "grid" });
  const node = el("section", { class: "service", "data-testid": "service-group", "data-service": service,
    "aria-label": service }, el("header", {}, el("h2", {}, service), summary), grid);
  const group = { node, summary, grid };
  groups.set(service, group);
  const after = [...groups.keys()].sort().find((name) => name > service && groups.get(name).node.isConnected);
  byId("services").insertBefore(node, after ? groups.get(after).node : null);
  return group;
}

function addCard(process, group) {
  const card = new ProcessCard(process, (key) => { log.forget(key); render(); });
  cards.set(process.key, card);
  group.grid.append(card.node);
  return card;
}

function summarise({ node, summary }, processes) {
  node.style.setProperty("--n", processes.length);
  const up = processes.filter((p) => !p.gone), ready = up.filter((p) => p.latest.ready).length;
  // Of one process its card says the rest.
  summary.textContent = processes.length === 1 ? `${ready} of 1 ready` : [`${ready} of ${processes.length} ready`, `${short(up.reduce((n, p) => n + (p.latest.qps || 0), 0))} calls/s`,
    up.length ? `worst P99 ${millis(Math.max(...up.map((p) => p.latest.p99_ms || 0)))}` : null].filter(Boolean).join(" · ");
}

function banner(now, processes) {
  const bad = processes.filter((p) => stateOf(p) !== "ready"), down = bad.filter((p) => p.gone).length;
  const names = bad.map(nameOf);
  if (failure) {
    const age = report ? `The numbers below are ${duration((now - reportAt) / 1000)} old.` : "There has been no report yet.";
    say("lost", "No report from the edge", `${sentence(failure)} ${age} Asking again every second.`);
  } else if (!processes.length) say("bad", "Nothing is running", "The report names no process.");
  else if (bad.length) say("bad", `${bad.length} of ${processes.length} not ready`,
    `${names.slice(0, 6).join(", ")}${names.length > 6 ? ` and ${names.length - 6} more` : ""}${down ? ` (${down} down)` : ""}. ${effects(bad)}`);
  else if (report.loading) say("waiting", "The first data is being loaded", sentence(report.loading));
  else if (!report.ready) say("bad", "The edge says it is not ready", "Every process says it is.");
  else {
    const services = new Set(processes.map((p) => p.latest.service)).size;
    say("good", "All ready", `${plural(processes.length, "process", "processes")} in ${plural(services, "service")}`);
  }
  byId("clock").textContent = report ? `last report ${new Date(reportAt).toLocaleTimeString()}` : "";
}

/** What readers miss, of each service once. */
function effects(bad) {
  return [...new Set(bad.map((p) => p.latest.effect).filter(Boolean))].join(" ");
}

function say(state, text, more) {
  const title = { good: "Health", waiting: text, bad: `⚠ ${text}`, lost: "⚠ no report" }[state];
  byId("banner").dataset.state = state;
  // The banner is a live region: only a change of words may speak.
  if (byId("banner-text").textContent !== text) byId("banner-text").textContent = text;
  byId("banner-more").textContent = more;
  document.title = `${title} · Feedmesh`;
}

function freshness(views) {
  const box = byId("freshness");
  box.hidden = !views.length;
  box.replaceChildren(el("h2", {}, "From an event to being readable"),
    el("ul", {}, views.map((v) => el("li", { "data-testid": "freshness-view", "data-view": v.view },
      el("strong", {}, v.view), el("span", { class: "number" }, millis(v.p50_ms), el("span", { class: "quiet" }, ` P50 · ${millis(v.p99_ms)} P99`)),
      el("span", { class: v.lost ? "bad number" : "quiet number" },
        v.lost ? `${plural(v.lost, "probe")} lost of ${count(v.samples)}` : `${plural(v.samples, "probe")}, none lost`)))));
}

function filter() {
  const text = byId("filter").value.trim().toLowerCase(), onlyBad = byId("only-bad").checked;
  let shown = 0;
  for (const card of cards.values()) {
    card.node.hidden = !card.matches(text) || (onlyBad && stateOf(card.process) === "ready");
    shown += card.node.hidden ? 0 : 1;
  }
  for (const { node, grid } of groups.values()) node.hidden = ![...grid.children].some((child) => !child.hidden);
  byId("none").hidden = shown > 0 || !cards.size;
}

byId("filter").addEventListener("input", filter);
byId("only-bad").addEventListener("change", filter);
document.addEventListener("themechange", render);
poll();
