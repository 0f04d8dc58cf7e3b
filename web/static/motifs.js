// The drawings on the covers. Each is a pure function of (width, height, palette, random)
// to a list of SVG shapes, drawn large and few: forty of them share a screen.

import { svg } from "./dom.js";

const circle = (cx, cy, r, fill, more = {}) => svg("circle", { cx, cy, r, fill, ...more });
const rect = (x, y, width, height, fill, more = {}) => svg("rect", { x, y, width, height, fill, ...more });
const path = (d, fill, more = {}) => svg("path", { d, fill, ...more });
const line = (d, stroke, width) => path(d, "none", { stroke, "stroke-width": width, "stroke-linecap": "round" });

/** A sun over three ridges. */
function hills(w, h, p, random) {
  const sun = circle(w * (0.25 + random() * 0.5), h * (0.26 + random() * 0.14), w * (0.13 + random() * 0.08), p.a);
  const ridge = (top, fill) => {
    const y = () => top + (random() - 0.5) * h * 0.2;
    return path(`M0 ${top} C${w * 0.2} ${y()} ${w * 0.35} ${y()} ${w * 0.5} ${top} S${w * 0.8} ${y()} ${w} ${y()} V${h} H0Z`, fill);
  };
  return [sun, ridge(h * 0.55, p.b), ridge(h * 0.7, p.c), ridge(h * 0.84, p.a)];
}

/** Rings about a corner. */
function rings(w, h, p, random) {
  const cx = random() < 0.5 ? 0 : w, cy = random() < 0.5 ? 0 : h;
  const inks = [p.a, p.g, p.b, p.g, p.c, p.g, p.a];
  const reach = Math.min(w, h) * (0.95 + random() * 0.15);
  return inks.map((ink, i) => circle(cx, cy, reach * (1 - i / inks.length), ink));
}

/** Quarter circles on a grid, the oldest trick in the poster book. */
function quarters(w, h, p, random) {
  const n = 3, side = w / n, rows = Math.ceil(h / side), shapes = [];
  const inks = [p.a, p.b, p.c, p.a, p.b];
  for (let i = 0; i < n * rows; i++) {
    const x = (i % n) * side, y = Math.floor(i / n) * side, turn = Math.floor(random() * 4) * 90;
    if (random() < 0.14) continue;
    const ink = inks[Math.floor(random() * inks.length)];
    shapes.push(random() < 0.18
      ? circle(x + side / 2, y + side / 2, side * 0.36, ink)
      : path(`M0 0H${side}A${side} ${side} 0 0 1 0 ${side}Z`, ink, { transform: `translate(${x} ${y}) rotate(${turn} ${side / 2} ${side / 2})` }));
  }
  return shapes;
}

/** A halftone: dots that swell from one side to the other. */
function halftone(w, h, p, random) {
  const n = 7, step = w / n, rows = Math.ceil(h / step), shapes = [], down = random() < 0.5;
  const ink = random() < 0.5 ? p.a : p.b;
  for (let y = 0; y < rows; y++) {
    for (let x = 0; x < n; x++) {
      const t = (down ? y : rows - 1 - y) / rows * 0.75 + x / n * 0.25;
      shapes.push(circle((x + 0.5) * step, (y + 0.5) * step, step * (0.07 + t * 0.4), ink));
    }
  }
  return [...shapes, circle(w * (0.3 + random() * 0.4), h * 0.5, w * 0.17, p.c)];
}

/** Two big discs and what they share. */
function discs(w, h, p, random) {
  const r = Math.min(w, h) * 0.33, lean = (random() - 0.5) * h * 0.22, x1 = w / 2 - r * 0.55, x2 = w / 2 + r * 0.55;
  const y1 = h / 2 + lean, y2 = h / 2 - lean;
  const d = Math.hypot(x2 - x1, y2 - y1) / 2, half = Math.sqrt(r * r - d * d);
  const nx = -(y2 - y1) / (2 * d) * half, ny = (x2 - x1) / (2 * d) * half, mx = w / 2, my = h / 2;
  return [circle(x1, y1, r, p.a), circle(x2, y2, r, p.b),
    path(`M${mx + nx} ${my + ny}A${r} ${r} 0 0 1 ${mx - nx} ${my - ny}A${r} ${r} 0 0 1 ${mx + nx} ${my + ny}Z`, p.c)];
}

/** Contour lines. */
function contours(w, h, p, random) {
  const shapes = [], n = 9, phase = random() * 6, bend = h * (0.05 + random() * 0.06);
  for (let i = 0; i < n; i++) {
    const y = (i + 0.5) * h / n, a = Math.sin(phase + i * 0.55) * bend, b = Math.cos(phase + i * 0.4) * bend;
    shapes.push(line(`M${-w * 0.1} ${y} C${w * 0.25} ${y - a * 2} ${w * 0.35} ${y + b * 2} ${w * 0.55} ${y} S${w * 0.9} ${y - b * 2} ${w * 1.1} ${y + a}`,
      i % 4 === 1 ? p.b : p.a, i % 4 === 1 ? h * 0.035 : h * 0.014));
  }
  return shapes;
}

/** Nested arches. */
function arches(w, h, p, random) {
  const inks = [p.a, p.g, p.b, p.g, p.c], foot = h, shapes = [];
  const two = random() < 0.45, width = two ? w * 0.46 : w * 0.74, top = h * (0.1 + random() * 0.12);
  for (const x of two ? [w * 0.27, w * 0.73] : [w * 0.5]) {
    inks.forEach((ink, i) => {
      const half = (width / 2) * (1 - i / inks.length * 0.95), y = top + (width / 2 - half) + half;
      shapes.push(path(`M${x - half} ${foot}V${y}A${half} ${half} 0 0 1 ${x + half} ${y}V${foot}Z`, ink));
    });
  }
  return shapes;
}

/** Petals about a centre. */
function petals(w, h, p, random) {
  const n = [6, 8, 10][Math.floor(random() * 3)], cx = w / 2, cy = h / 2, long = Math.min(w, h) * 0.42, turn = random() * 40, shapes = [];
  for (let i = 0; i < n; i++) {
    shapes.push(svg("ellipse", { cx, cy: cy - long * 0.56, rx: long * (1.9 / n), ry: long * 0.46, fill: i % 2 ? p.b : p.a,
      transform: `rotate(${turn + i * 360 / n} ${cx} ${cy})` }));
  }
  return [...shapes, circle(cx, cy, long * 0.17, p.c)];
}

/** Broad bands on the slant. */
function bands(w, h, p, random) {
  const inks = [p.a, p.b, p.c], lean = random() < 0.5 ? 34 : -34, size = w * 0.1, shapes = [];
  for (let i = -3; i < 12; i++) {
    if (i % 4 === 3) continue;
    shapes.push(rect(i * size * 1.15, -h, size, h * 3, inks[((i % 3) + 3) % 3]));
  }
  return [svg("g", { transform: `rotate(${lean} ${w / 2} ${h / 2})` }, shapes)];
}

/** A skyline of blocks. */
function blocks(w, h, p, random) {
  const inks = [p.a, p.b, p.c, p.a], shapes = [], n = 5, width = w / n;
  shapes.push(circle(w * (0.2 + random() * 0.6), h * 0.24, w * 0.1, p.b));
  for (let i = 0; i < n; i++) {
    const top = h * (0.3 + random() * 0.45), ink = inks[Math.floor(random() * inks.length)];
    shapes.push(rect(i * width, top, width + 0.5, h - top, ink));
    if (random() < 0.6) shapes.push(rect(i * width + width * 0.3, top + h * 0.08, width * 0.4, h * 0.045, p.g));
  }
  return shapes;
}

/** Leaves up a stem. */
function leaves(w, h, p, random) {
  const x = w / 2, pairs = 4, shapes = [line(`M${x} ${h}V${h * 0.12}`, p.a, w * 0.014)], long = w * 0.3;
  for (let i = 0; i < pairs; i++) {
    const y = h * (0.94 - i * 0.2), size = long * (1 - i * 0.14), up = size * (0.55 + random() * 0.3);
    for (const side of [-1, 1]) {
      shapes.push(path(`M${x} ${y}Q${x + side * size * 0.25} ${y - up} ${x + side * size} ${y - up}Q${x + side * size * 0.8} ${y + up * 0.1} ${x} ${y}Z`,
        [p.a, p.b, p.c][(i + (side > 0 ? 1 : 0)) % 3]));
    }
  }
  return shapes;
}

export const MOTIFS = [hills, rings, quarters, halftone, discs, contours, arches, petals, bands, blocks, leaves];
