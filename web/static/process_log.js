// Every process ever reported since the page was opened, with its last minutes. A report
// says which processes run; only memory can say which have gone.

export const SPAN_MS = 5 * 60_000;
const CHARTED = ["qps", "p99_ms", "behind"];
const FORGET_MS = 15 * 60_000; // a process gone this long is no longer news

const keyOf = (p) => `${p.service}/${p.shard}@${p.address}`;

export class ProcessLog {
  constructor() {
    this.processes = new Map(); // key -> {key, latest, seen, gone, restarted, erred, samples}
  }

  /** Takes in one report; afterwards `gone` is the time a process was first missing, or 0. */
  take(report, now) {
    const here = new Set();
    for (const latest of report.processes) {
      const key = keyOf(latest), known = this.processes.get(key) ?? { key, restarted: 0, erred: 0, samples: emptySamples() };
      here.add(key);
      if (known.latest && (known.latest.pid !== latest.pid || latest.uptime_s < known.latest.uptime_s - 2)) known.restarted = now;
      if (known.latest && latest.errors > known.latest.errors) known.erred = now;
      Object.assign(known, { latest, seen: now, gone: 0 });
      for (const name of CHARTED) push(known.samples[name], now, latest[name]);
      this.processes.set(key, known);
    }
    for (const [key, known] of this.processes) {
      if (here.has(key)) continue;
      known.gone ||= now;
      if (now - known.gone > FORGET_MS) this.processes.delete(key);
    }
  }

  forget(key) {
    this.processes.delete(key);
  }

  /** [[service, [process, …]], …], by name, shard and address. */
  groups() {
    const groups = new Map();
    for (const process of this.processes.values()) {
      const list = groups.get(process.latest.service) ?? [];
      list.push(process);
      groups.set(process.latest.service, list);
    }
    const order = (a, b) => a.latest.shard - b.latest.shard || a.latest.replica - b.latest.replica || a.latest.address.localeCompare(b.latest.address);
    return [...groups].sort(([a], [b]) => a.localeCompare(b)).map(([service, list]) => [service, list.sort(order)]);
  }
}

/** "apiary 0", or "apiary 0.1" of a further replica. */
export const nameOf = ({ latest: { service, shard, replica } }) => `${service} ${shard}${replica ? `.${replica}` : ""}`;

export const stateOf = (process) => (process.gone ? "down" : process.latest.ready ? "ready" : "waiting");

function emptySamples() {
  return Object.fromEntries(CHARTED.map((name) => [name, []]));
}

function push(samples, at, value) {
  samples.push({ at, value: typeof value === "number" ? value : NaN });
  while (samples.length && at - samples[0].at > SPAN_MS) samples.shift();
}
