// One version of a model: where it stands, what it is made of, how it did, and what to type.

import { el } from "./dom.js";
import { ago, count, millis, plural, short, words } from "./format.js";

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

/** promoted: the version that ranks the feeds, if there is one; metrics are shown beside its. */
export function modelCard(model, promoted) {
  const id = idOf(model), state = stateOf(model), other = promoted && promoted !== model ? promoted : null;
  return el("article", { class: "model", "data-testid": "model-card", "data-model": id, "data-state": state, "aria-label": id },
    el("header", {}, el("h2", {}, id), el("span", { class: "model-state", "data-testid": "model-state" }, STATE[state])),
    model.problem ? el("p", { class: "model-problem", "data-testid": "model-problem" }, model.problem) : null,
    el("dl", { class: "model-facts" }, rows(model).flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)])),
    metrics(model, other),
    model.features.length ? features(model, id) : null,
    el("p", { class: "model-more" },
      model.report ? el("a", { class: "button plain", href: model.report, "data-testid": "model-report" }, "Training report") : null,
      model.promoted || model.problem ? null : el("code", {}, `feedmesh model promote ${id}`)));
}

function rows({ trained_ms, trees, leaves, features: names, loaded, load_ms, fingerprint }) {
  return [
    ["trained", trained_ms ? `${ago(trained_ms)}, ${new Date(trained_ms).toLocaleString()}` : "–"],
    ["trees", trees ? `${count(trees)} of at most ${plural(leaves, "leaf", "leaves")}` : "–"],
    ["features", count(names.length)],
    ["loaded", loaded ? `in ${millis(load_ms)}` : "not by every shard"],
    ["fingerprint", fingerprint === "0" ? "–" : el("span", { class: "mono" }, fingerprint)],
  ];
}

/** Every metric, and how far it is from that of the version which ranks the feeds. */
function metrics({ metrics: own }, other) {
  const names = Object.keys(own);
  if (!names.length) return el("p", { class: "quiet" }, "No metrics are kept beside it.");
  const beside = other && names.some((name) => name in other.metrics) ? other : null;
  const head = el("tr", {}, el("th", { scope: "col" }, "metric"), el("th", { scope: "col" }, "value"),
    beside ? el("th", { scope: "col" }, `against ${idOf(beside)}`) : null);
  return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Metrics" },
    el("table", { "data-testid": "model-metrics" }, el("thead", {}, head), el("tbody", {}, names.map((name) => el("tr", {},
      el("th", { scope: "row" }, words(name)), el("td", {}, short(own[name])),
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
