// Numbers and times for people. Ids never come through here: they are strings from end to
// end, because a u64 does not fit in a JavaScript number.

const UNITS = [["year", 31536e6], ["month", 2592e6], ["week", 6048e5], ["day", 864e5], ["hour", 36e5], ["minute", 6e4]];
const relative = new Intl.RelativeTimeFormat("en", { numeric: "auto" });
const whole = new Intl.NumberFormat("en");

export function ago(ms, now = Date.now()) {
  const delta = ms - now;
  for (const [unit, size] of UNITS) {
    if (Math.abs(delta) >= size) return relative.format(Math.round(delta / size), unit);
  }
  return "just now";
}

export function count(n) {
  return Number.isFinite(n) ? whole.format(n) : "–";
}

/** Three significant digits: 0.00123, 12.3, 1,234. */
export function short(n) {
  if (!Number.isFinite(n)) return "–";
  if (Number.isInteger(n) || Math.abs(n) >= 100) return whole.format(Math.round(n));
  return String(Number(n.toPrecision(3)));
}

export function millis(n) {
  if (!Number.isFinite(n)) return "–";
  if (n > 0 && n < 1) return `${Math.max(1, Math.round(n * 1000))} µs`;
  return n >= 1000 ? `${(n / 1000).toFixed(n >= 10000 ? 0 : 1)} s` : `${short(n)} ms`;
}

export function bytes(n) {
  if (!Number.isFinite(n)) return "–";
  const power = n < 1 ? 0 : Math.min(4, Math.floor(Math.log(n) / Math.log(1024)));
  return `${short(n / 1024 ** power)} ${["B", "KiB", "MiB", "GiB", "TiB"][power]}`;
}

export function duration(seconds) {
  if (!Number.isFinite(seconds)) return "–";
  const s = Math.max(0, Math.floor(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} m ${s % 60} s`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} m`;
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
}

export const plural = (n, one, many = `${one}s`) => `${count(n)} ${n === 1 ? one : many}`;

/** A message from elsewhere as a sentence of ours. */
export function sentence(text) {
  const trimmed = String(text ?? "").trim();
  if (!trimmed) return "";
  const capital = trimmed[0].toUpperCase() + trimmed.slice(1);
  return /[.!?]$/.test(capital) ? capital : `${capital}.`;
}

/** followed_boards -> followed boards */
export const words = (name) => String(name).replaceAll("_", " ");
