// One process on the health page. Built once, then only its texts change every second: so
// an opened table stays open, and focus and selection stay where they are.

import { bytes, count, duration, millis, short, words } from "./format.js";
import { draw } from "./sparkline.js";
import { nameOf, SPAN_MS, stateOf } from "./process_log.js";
import { el } from "./dom.js";
import { gauge, shownGauges } from "./gauges.js";

const CHARTS = [["qps", "calls a second", short], ["p99_ms", "P99", millis], ["behind", "events behind", count]];
const RECENT_MS = 60_000; // how long an error or a restart stays marked
const STATE = { ready: "ready", waiting: "not ready", down: "down" };

export class ProcessCard {
  constructor(process, forget) {
    const { service, shard, replica, zone, address } = process.latest;
    this.process = process;
    this.state = el("span", { class: "process-state", "data-testid": "process-state" });
    this.why = el("p", { class: "process-why", "data-testid": "process-why" });
    this.effect = el("p", { class: "process-effect", "data-testid": "process-effect" });
    this.exits = el("ul", { class: "process-exits", "data-testid": "process-exits" });
    this.facts = new Map();
    this.charts = CHARTS.map(([name, label, format]) => ({ name, format, value: el("strong", { class: "number" }),
      canvas: el("canvas", { role: "img", "aria-label": `${label}, last minutes` }), label }));
    this.methods = el("tbody");
    this.gauges = el("dl", { class: "gauges" });
    this.detail = this.buildDetail();
    this.forget = el("button", { type: "button", class: "button plain", hidden: true, onclick: () => forget(process.key) }, "Forget it");
    this.factList = el("dl", { class: "process-facts" });
    this.node = el("article", { class: "process", "data-testid": "process-card", "data-service": service, "data-shard": shard, "data-replica": replica,
      "data-address": address, "aria-label": `${service} shard ${shard}${replica ? ` replica ${replica}` : ""} at ${address}` },
      el("header", {}, el("h3", {}, nameOf(process)), this.state),
      el("p", { class: "process-address" }, zone === "local" ? address : `${address} in ${zone}`), this.why, this.effect, this.exits, this.forget,
      el("div", { class: "charts" }, this.charts.map((c) => el("div", { class: "chart" },
        el("p", {}, c.value, el("span", { class: "quiet" }, c.label)), c.canvas))),
      this.factList, this.detail);
  }

  buildDetail() {
    const heads = ["method", "calls/s", "P50", "P99", "errors", "calls"];
    return el("details", { "data-testid": "process-methods", ontoggle: () => this.detail.open && this.tables() },
      el("summary", {}, "Methods and gauges"),
      el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Methods" },
        el("table", {}, el("thead", {}, el("tr", {}, heads.map((h) => el("th", { scope: "col" }, h)))), this.methods)),
      this.gauges);
  }

  /** freshness is the report's entry for this service's view, if it has one. */
  update(now, freshness, colours) {
    const { latest: p, gone, restarted, erred } = this.process, state = stateOf(this.process);
    this.node.dataset.state = state;
    set(this.state, STATE[state]);
    set(this.why, reason(this.process, now));
    this.why.hidden = !this.why.textContent;
    set(this.effect, p.effect ?? "");
    this.effect.hidden = !p.effect;
    this.history(p.exits ?? [], now);
    this.forget.hidden = !gone;
    for (const { name, format, value, canvas } of this.charts) {
      set(value, gone ? "–" : format(p[name]));
      const alarming = name === "behind" && p[name] > 0 && !p.ready;
      draw(canvas, this.process.samples[name], { span: spanOf(this.process, now), now,
        colour: alarming ? colours.bad : colours.line, floor: name === "behind" ? 10 : 0 });
    }
    this.fact("records behind", count(p.behind_records ?? 0));
    this.fact("oldest of them", gauge("lag_seconds", p.behind_s));
    this.fact("P50", millis(p.p50_ms));
    this.fact("errors", count(p.errors), now - erred < RECENT_MS);
    this.fact("calls", count(p.calls));
    this.fact("fresh P99", freshness ? millis(freshness.p99_ms) : "–");
    this.fact("memory", bytes(p.rss_bytes));
    this.fact("peak", bytes(p.peak_rss_bytes));
    this.fact("up", duration(p.uptime_s), now - restarted < RECENT_MS);
    this.fact("restarts", count(p.restarts ?? 0), p.restarts > 0);
    this.fact("pid", String(p.pid ?? "–"));
    for (const [name, value] of shownGauges(p.gauges ?? {})) this.fact(name, value);
    if (this.detail.open) this.tables();
  }

  /** Why it was started again, the newest first. Built anew only when there is another, so a selection stays. */
  history(exits, now) {
    this.exits.hidden = !exits.length;
    const newest = exits[0]?.at_ms ?? 0;
    if (this.newest !== newest) {
      this.newest = newest;
      this.exits.replaceChildren(...exits.map(({ at_ms, why, log }) => el("li", {},
        el("span", {}, el("time", { datetime: new Date(at_ms).toISOString() }), ` ${why}`),
        log ? el("code", {}, log) : null)));
    }
    exits.forEach(({ at_ms }, i) => set(this.exits.children[i].querySelector("time"), `${duration((now - at_ms) / 1000)} ago`));
  }

  fact(name, value, loud = false) {
    let cell = this.facts.get(name);
    if (!cell) {
      cell = el("dd", { class: "number" });
      this.facts.set(name, cell);
      this.factList.append(el("div", {}, el("dt", {}, name), cell));
    }
    set(cell, value);
    cell.classList.toggle("bad", Boolean(loud));
  }

  tables() {
    const { methods = [], gauges = {} } = this.process.latest;
    this.methods.replaceChildren(...methods.map((m) => el("tr", {}, el("th", { scope: "row" }, m.method),
      [short(m.qps), millis(m.p50_ms), millis(m.p99_ms)].map((v) => el("td", {}, v)),
        el("td", { class: m.errors ? "bad" : null }, count(m.errors)), el("td", {}, count(m.calls)))));
    this.gauges.replaceChildren(...Object.entries(gauges).flatMap(([name, v]) => [el("dt", {}, words(name)),
      el("dd", { class: "number" }, gauge(name, v))]));
  }

  matches(text) {
    const { service, shard, zone, address, why } = this.process.latest;
    return `${nameOf(this.process)} ${service}/${shard} ${zone} ${address} ${STATE[stateOf(this.process)]} ${why}`.toLowerCase().includes(text);
  }
}

function reason({ latest: p, gone, restarted }, now) {
  const since = (at) => duration((now - at) / 1000);
  if (gone) return `Not in the reports for ${since(gone)}. Last seen after ${duration(p.uptime_s)} of running.`;
  if (!p.ready) return p.why || "It gives no reason.";
  return now - restarted < RECENT_MS ? `Restarted ${since(restarted)} ago.` : "";
}

/** A page just opened has little to show: the chart zooms out as the minutes pass. */
function spanOf({ samples }, now) {
  return Math.min(SPAN_MS, Math.max(60_000, now - (samples.qps[0]?.at ?? now)));
}

/** Writing the same text again would still wake screen readers and drop a selection. */
function set(node, text) {
  if (node.textContent !== text) node.textContent = text;
}
