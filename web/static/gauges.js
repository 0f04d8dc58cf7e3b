// Gauges for people: each by what its name says it is of, and the few that say at a glance how
// a service does what it is for.

import { bytes, count, duration, millis, short } from "./format.js";

export function gauge(name, value) {
  if (!Number.isFinite(value)) return "–";
  if (/bytes/.test(name)) return bytes(value);
  if (/_seconds$/.test(name)) return value < 10 ? millis(1000 * value) : duration(value);
  return short(value);
}

/** How much of what scorpion asked its cache for was there; NaN before anything was. */
export const cacheHits = (gauges) => gauges.cache_hits / (gauges.cache_hits + gauges.cache_expired + gauges.cache_misses);

export const percent = (share) => (Number.isFinite(share) ? `${short(100 * share)} %` : "–");

const SHOWN = [
  ["cache hits", "cache_hits", (gauges) => percent(cacheHits(gauges))],
  ["graph edges", "graph_edges", (gauges) => count(gauges.graph_edges)],
  ["graph age", "graph_age_seconds", (gauges) => gauge("graph_age_seconds", gauges.graph_age_seconds)],
  ["uncounted", "aggregation_lag_events", (gauges) => count(gauges.aggregation_lag_events)],
  ["oldest uncounted", "aggregation_lag_seconds", (gauges) => gauge("aggregation_lag_seconds", gauges.aggregation_lag_seconds)],
  ["fallbacks", "fallbacks", (gauges) => count(gauges.fallbacks)],
];

/** [[label, text]] of those that the process has. */
export const shownGauges = (gauges) => SHOWN.filter(([, name]) => name in gauges).map(([label, , say]) => [label, say(gauges)]);
