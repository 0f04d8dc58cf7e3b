// The tokens of the last writes. A read that carries them waits until it can see those
// writes, so a hidden pin is gone from the very next page.

const KEY = "feedmesh.tokens";
const KEEP = 4;
// Every view has long caught up by then; a token older than this could only make a read
// wait for a log that no longer exists.
const LIFE_MS = 60_000;

let writes = load();
let glanced = null; // impressions come every two seconds: they must not push out a save

export function remember(token, glance = false) {
  if (!token) return;
  const entry = { token, at: Date.now() };
  if (glance) {
    glanced = entry;
    return;
  }
  writes = [...writes.filter((w) => w.token !== token), entry].slice(-KEEP);
  save();
}

/** What to pass as token=, "" when nothing was written lately. */
export function recent() {
  const fresh = [...writes, glanced].filter((w) => w && Date.now() - w.at < LIFE_MS);
  return [...new Set(fresh.map((w) => w.token))].join(",");
}

export function forget() {
  writes = [];
  glanced = null;
  save();
}

// Kept for the tab, so that a reload also sees what was done just before it.
function save() {
  try { sessionStorage.setItem(KEY, JSON.stringify(writes)); } catch { /* then only this page knows */ }
}

function load() {
  try {
    const kept = JSON.parse(sessionStorage.getItem(KEY) ?? "[]");
    return Array.isArray(kept) ? kept.filter((w) => typeof w?.token === "string") : [];
  } catch {
    return [];
  }
}
