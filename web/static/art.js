// Cover art from nothing but a pin's id and its first interest. The same pin looks the same
// everywhere and for ever; pins of one interest share a family of inks.
//
// A cover is laid out like a book's: the drawing has one part, the title has the other, in
// the paper's own colour. So a title is legible whatever was drawn and however long it is.

import { el, svg } from "./dom.js";
import { FAMILIES } from "./palettes.js";
import { MOTIFS } from "./motifs.js";

const WIDTH = 240;
const SHAPES = [0.62, 0.78, 0.9, 1.05, 1.2];

/** FNV-1a over the text of an id: an id is never turned into a number. */
function hash(text) {
  let h = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193);
  // The last digits differ most between neighbours: stir them into every bit.
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}

/** Mulberry32. */
function generator(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

const pick = (list, random) => list[Math.floor(random() * list.length)];

function titleSize(title) {
  if (title.length <= 18) return "xl";
  if (title.length <= 38) return "l";
  return title.length <= 80 ? "m" : "s";
}

/** A <span class="cover"> holding the drawing and the title; spans, so a button may hold it. */
export function cover({ pin, title, interests }) {
  const random = generator(hash(pin));
  const family = FAMILIES[hash(interests?.[0] ?? "") % FAMILIES.length];
  const palette = random() < 0.62 ? family[0] : family[1];
  const height = Math.round(WIDTH * pick(SHAPES, random));
  const motif = pick(MOTIFS, random);
  const layout = pick(["above", "above", "below", "matted"], random);
  const drawing = svg("svg", {
    viewBox: `0 0 ${WIDTH} ${height}`, preserveAspectRatio: "xMidYMid slice", class: "cover-art", "aria-hidden": "true",
    style: `aspect-ratio:${WIDTH}/${height}`,
  }, motif(WIDTH, height, palette, random));
  return el("span", { class: `cover cover-${layout}`, style: `--ground:${palette.g};--type:${palette.t};--mat:${palette.b}` },
    drawing, el("span", { class: `cover-title size-${titleSize(title)}`, dir: "auto" }, el("span", { class: "cover-words" }, title)));
}
