// The parts of an X-ray as elements. Names and extra keys are not assumed: later features,
// scores and stages show up by themselves.

import { el } from "./dom.js";
import { count, millis, plural, short, words } from "./format.js";

const LEFT_OUT = 12;

/** The stages in order, each with its time and the rows that it kept, dropped or lost. */
export function stages(list) {
  const longest = Math.max(...list.map((s) => s.took_ms ?? 0), 0.001);
  return el("ol", { class: "stages", "data-testid": "why-stages" },
    list.map((stage) => el("li", { class: `stage kind-${stage.kind}`, "data-lost": stage.lost ? "true" : null },
    el("span", { class: "stage-name" }, words(stage.stage), el("span", { class: "stage-kind" }, stage.kind)),
    el("span", { class: "stage-count" }, outcome(stage)),
    el("span", { class: "stage-time" }, millis(stage.took_ms)),
    el("span", { class: "meter", "aria-hidden": "true" }, el("span", { style: `width:${Math.max(1, 100 * (stage.took_ms ?? 0) / longest)}%` })),
    stage.lost ? el("span", { class: "stage-lost" }, `lost: ${stage.lost}`) : null)));
}

function outcome({ kept, dropped: out }) {
  return [kept ? `${count(kept)} kept` : null, out ? `${count(out)} dropped` : null].filter(Boolean).join(", ");
}

export function sources(list) {
  if (!list.length) return el("p", { class: "quiet" }, "No source recorded.");
  return el("ul", { class: "sources", "data-testid": "why-sources" }, list.map(({ source, ...rest }) => el("li", {},
    el("strong", {}, words(source ?? "unknown")), keyValues(rest))));
}

/** A score says little by itself: the bar, and the words, say how many of `all` (maps of scores) it beats. */
export function bars(scores, all) {
  return el("dl", { class: "bars", "data-testid": "why-scores" }, Object.entries(scores).flatMap(([name, value]) => {
    const others = all.map((each) => each[name]).filter(Number.isFinite);
    const rank = 1 + others.filter((other) => other > value).length;
    const ranked = Number.isFinite(value) && others.length > 1;
    return [
      el("dt", {}, words(name)),
      el("dd", {},
        ranked ? el("span", { class: "meter", "aria-hidden": "true" },
          el("span", { style: `width:${100 * (others.length - rank + 1) / others.length}%` })) : null,
        ranked ? el("span", { class: "number" }, `${count(rank)} of ${count(others.length)}`) : null,
        el("span", { class: "number raw", title: "the score itself" }, value === null ? "missing" : text(value))),
    ];
  }));
}

/** Every value that the model saw, by name; null is what it calls missing. */
export function features(map) {
  const names = Object.keys(map).sort(), missing = names.filter((name) => map[name] === null).length;
  return el("details", { "data-testid": "why-features" },
    el("summary", {}, plural(names.length, "feature"), missing ? el("span", { class: "number" }, `${count(missing)} missing`) : null),
    el("dl", { class: "features" }, names.flatMap((name) => [el("dt", {}, name),
      el("dd", { class: map[name] === null ? "quiet" : "number" }, map[name] === null ? "missing" : text(map[name]))])));
}

/** Any map, however deep, as a definition list. */
export function keyValues(map) {
  return el("dl", { class: "facts" }, Object.entries(map ?? {}).filter(([, v]) => v !== null && v !== undefined)
    .flatMap(([name, value]) => [el("dt", {}, words(name)), el("dd", { dir: "auto" }, isMap(value) ? keyValues(value) : text(value))]));
}

/** How many pins each stage left out and why, and a few of them. */
export function dropped(pins) {
  const groups = new Map();
  for (const [pin, { dropped: out }] of Object.entries(pins)) {
    if (!out) continue;
    const key = `${words(out.stage ?? "unknown")}: ${out.reason ?? "no reason given"}`;
    groups.set(key, [...(groups.get(key) ?? []), pin]);
  }
  if (!groups.size) return el("p", { class: "quiet" }, "Nothing was dropped, or the server named none.");
  const sorted = [...groups].sort((a, b) => b[1].length - a[1].length);
  return el("ul", { class: "left-out" }, sorted.map(([reason, ids]) => el("li", {},
    el("details", {}, el("summary", {}, reason, el("span", { class: "number" }, plural(ids.length, "pin"))),
      el("p", { class: "ids" }, ids.slice(0, LEFT_OUT).join(", ") + (ids.length > LEFT_OUT ? `, and ${ids.length - LEFT_OUT} more` : ""))))));
}

const isMap = (value) => typeof value === "object" && value !== null && !Array.isArray(value);

function text(value) {
  if (typeof value === "number") return short(value);
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (Array.isArray(value)) return value.map((v) => (isMap(v) ? JSON.stringify(v) : text(v))).join(", ") || "none";
  return String(value);
}
