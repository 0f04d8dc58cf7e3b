// Where the candidates of a request came from, as elements: the walk and its seeds, the
// interests, and how the sources were blended. Of the whole page, with what led to one pin marked.

import { el } from "./dom.js";
import { count, plural, short, words } from "./format.js";
import { keyValues } from "./xray.js";

const SHOWN = 6;
export const NONE = "0"; // the id of nothing

/** led: the seeds that led to the pin in question; names.pin(id) is a title that the page knows. */
export function walk({ seeds, ...got }, led, names) {
  const heaviest = Math.max(...seeds.map((seed) => seed.weight ?? 0), 1e-9);
  return [
    el("p", { class: "quiet" }, `A random walk from ${plural(seeds.length, "pin")} that you engaged with lately.`),
    ...folded("why-seeds", "pins", seeds, ({ pin }) => led.includes(pin), ({ pin, title, weight, known, ...rest }, here) =>
      origin({ name: title || names.pin(pin) || `pin ${pin}`, here, weight, share: (weight ?? 0) / heaviest,
        more: known === false ? "not in the graph yet" : facts(rest), "data-pin": pin })),
    keyValues(got),
  ];
}

/** led: the interests that led to the pin in question. */
export function interests(list, led) {
  const heaviest = Math.max(...list.map((each) => each.weight ?? 0), 1e-9);
  return folded("why-interests", "interests", list, ({ interest }) => led.includes(interest), ({ interest, title, weight, followed, affinity, ...rest }, here) =>
    origin({ name: title || `interest ${interest}`, here, weight, share: (weight ?? 0) / heaviest,
      more: [followed ? "followed" : null, Number.isFinite(affinity) ? `affinity ${short(affinity)}` : null, facts(rest)].filter(Boolean).join(", ") }));
}

/** What led here first, then the others as they come; of a long list the rest is a click away. */
function folded(testid, what, list, isHere, row) {
  const sorted = [...list.filter(isHere), ...list.filter((each) => !isHere(each))].map((each) => row(each, isHere(each)));
  const ol = (rows, props = {}) => el("ol", { class: "origins", ...props }, rows);
  const rest = sorted.slice(SHOWN);
  return [ol(sorted.slice(0, SHOWN), { "data-testid": testid }),
    rest.length ? el("details", { "data-testid": `${testid}-rest` }, el("summary", {}, `${count(rest.length)} more ${what}`), ol(rest)) : null];
}

function origin({ name, here, weight, share, more, ...props }) {
  return el("li", { "data-led": here ? "true" : null, ...props },
    el("span", { class: "origin-name", dir: "auto" }, name, here ? el("span", { class: "origin-here" }, "led here") : null),
    el("span", { class: "number" }, `weight ${short(weight)}`),
    el("span", { class: "meter", "aria-hidden": "true" }, el("span", { style: `width:${Math.max(1, 100 * share)}%` })),
    more ? el("span", { class: "origin-more" }, more) : null);
}

const facts = (map) => Object.entries(map).filter(([, value]) => Number.isFinite(value)).map(([name, value]) => `${count(value)} ${words(name)}`).join(", ");

/** Each source's rate, its candidates and its slots on the page. */
export function blend(list) {
  return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "The blend" }, el("table", { class: "blend", "data-testid": "why-blend" },
    el("thead", {}, el("tr", {}, ["source", "rate", "found", "slots"].map((head) => el("th", { scope: "col" }, head)))),
    el("tbody", {}, list.map(({ source, rate, found, slots }) => el("tr", {}, el("th", { scope: "row" }, words(source)),
      [short(rate), count(found), count(slots)].map((value) => el("td", {}, value)))))));
}
