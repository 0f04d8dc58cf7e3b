// One version of a model: its state, its composition, how it did, and the command to type.

import { ROOT } from "./api.js";
import { el } from "./dom.js";
import { ago, count, millis, plural, sentence, short, words } from "./format.js";

const STATE = { promoted: "promoted", waiting: "loading", refused: "refused", loaded: "loaded", kept: "in the registry" };

/** Of version 0 is what stands in the registry under no version, such as a file that names the promoted one wrongly. */
export const idOf = ({ name, version }) => (version ? `${name}@${version}` : name);

export function stateOf({ promoted, loaded, problem }) {
  if (problem) return "refused";
  if (promoted) return loaded ? "promoted" : "waiting";
  return loaded ? "loaded" : "kept";
}

/** In one line. */
export const facts = ({ trained_ms, trees, features }) =>
  [trained_ms ? `trained ${ago(trained_ms)}` : null, plural(trees, "tree"), plural(features.length, "feature")].filter(Boolean).join(" · ");

/** other: the version whose metrics stand beside its own, if there is one. promote(model) asks whether it shall rank the feeds. */
export function modelCard(model, other, promote) {
  const id = idOf(model), state = stateOf(model);
  return el("article", { class: "model", "data-testid": "model-card", "data-model": id, "data-state": state, "aria-label": id },
    el("header", {}, el("h2", {}, id), el("span", { class: "model-state", "data-testid": "model-state" }, STATE[state])),
    model.problem ? el("p", { class: "model-problem", "data-testid": "model-problem" }, model.problem) : null,
    el("dl", { class: "model-facts" }, rows(model).flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)])),
    model.evaluation ? verdict(model.evaluation) : null,
    model.evaluation ? baselines(model.evaluation, id) : null,
    metrics(model, other, id),
    model.features.length ? features(model, id) : null,
    el("p", { class: "model-more" },
      model.report ? el("a", { class: "button plain", href: new URL(model.report.slice(1), ROOT), "data-testid": "model-report" }, "Training report") : null,
      model.promoted || model.problem ? null : el("button", { type: "button", class: "button", "data-testid": "model-promote",
        onclick: () => promote(model) }, "Promote")));
}

/** Which model is better, by how much, and on how much evidence. */
function verdict({ verdict: state, words: said }) {
  return el("p", { class: "model-verdict", "data-verdict": state, "data-testid": "model-verdict" }, sentence(said));
}

const METRIC_NAMES = { auc: "AUC", request_auc: "AUC per request", "ndcg@10": "NDCG@10" };
const metricName = (name) => METRIC_NAMES[name] ?? words(name);

/** The model beside orders that need none, on the same requests, the best first; a bar each with its interval. */
function baselines({ metric, methods }, id) {
  const rest = [...new Set(Object.values(methods).flatMap(Object.keys))].filter((name) => name !== metric);
  const rows = Object.entries(methods).sort(([, a], [, b]) => (b[metric]?.value ?? -1) - (a[metric]?.value ?? -1));
  const most = Math.max(...rows.map(([, of]) => of[metric]?.high ?? of[metric]?.value ?? 0), 1e-9);
  const head = el("tr", {}, ["", metricName(metric), "95 % interval", ...rest.map(metricName)].map((text) => el("th", { scope: "col" }, text || el("span", { class: "hidden-label" }, "method"))));
  return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `${id} beside baselines` },
    el("table", { "data-testid": "model-baselines" }, el("thead", {}, head), el("tbody", {}, rows.map(([method, of]) => {
      const { value, low, high } = of[metric] ?? {};
      return el("tr", { "data-method": method },
        el("th", { scope: "row" }, words(method), interval(value, low, high, most)),
        el("td", {}, figure(value)), el("td", {}, Number.isFinite(low) ? `${figure(low)} to ${figure(high)}` : "–"),
        rest.map((name) => el("td", {}, figure(of[name]?.value))));
    }))));
}

const figure = (value) => (Number.isFinite(value) ? value.toFixed(3) : "–");

function interval(value, low, high, most) {
  if (!Number.isFinite(value)) return null;
  const at = (x) => `${(100 * x) / most}%`;
  return el("span", { class: "interval", "aria-hidden": "true" },
    el("span", { class: "interval-value", style: `width:${at(value)}` }),
    Number.isFinite(low) ? el("span", { class: "interval-range", style: `left:${at(low)};width:${at(high - low)}` }) : null);
}

function rows({ trained_ms, trees, leaves, features: names, loaded, load_ms, fingerprint }) {
  return [
    ["trained", trained_ms ? `${ago(trained_ms)}, ${new Date(trained_ms).toLocaleString()}` : "–"],
    ["trees", trees ? `${count(trees)} of at most ${plural(leaves, "leaf", "leaves")}` : "–"],
    ["features", count(names.length)],
    ["loaded", loaded ? `in ${millis(load_ms)}` : "not by every shard"],
    ["fingerprint", /^0*$/.test(fingerprint) ? "–" : el("span", { class: "mono" }, fingerprint)],
  ];
}

/** Every metric, and how far it is from that of the version which ranks the feeds. */
function metrics({ metrics: own }, other, id) {
  const names = Object.keys(own);
  if (!names.length) return el("p", { class: "quiet" }, "No metrics are kept beside it.");
  const beside = other && names.some((name) => name in other.metrics) ? other : null;
  const head = el("tr", {}, el("th", { scope: "col" }, "metric"), el("th", { scope: "col" }, "value"),
    beside ? el("th", { scope: "col" }, `against ${idOf(beside)}`) : null);
  return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `Metrics of ${id}` },
    el("table", { "data-testid": "model-metrics" }, el("thead", {}, head), el("tbody", {}, names.map((name) => el("tr", {},
      el("th", { scope: "row" }, metricName(name)), el("td", {}, short(own[name])),
      beside ? el("td", {}, apart(own[name], beside.metrics[name])) : null)))));
}

function apart(own, other) {
  if (!Number.isFinite(other)) return "–";
  const by = own - other;
  return by === 0 ? "±0" : `${by > 0 ? "+" : "−"}${short(Math.abs(by))}`;
}

function features({ features: names }, id) {
  return el("details", { "data-testid": "model-features", "data-key": id }, el("summary", {}, plural(names.length, "feature")),
    el("ul", { class: "feature-names" }, names.map((name) => el("li", {}, name))));
}
