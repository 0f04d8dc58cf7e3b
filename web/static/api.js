// The HTTP API as functions. It knows URLs, errors and timeouts, and nothing of the page.

import { remember, recent, forget } from "./tokens.js";

// The root of the edge: beside the folder of this file, also behind a proxy that adds a prefix.
export const ROOT = new URL("../", import.meta.url);
const TIMEOUT_MS = 10_000;
// A page asked for while a save or hide is still on its way waits this long for its token.
const WRITE_WAIT_MS = 800;

// Actions that ask for no change: no page need wait for these.
const GLANCES = new Set(["impression", "closeup", "click"]);

const writing = new Set();
const pause = (ms) => new Promise((done) => setTimeout(done, ms));

/** An answer the page can act on: a status word, and a message that can be shown. */
export class ApiError extends Error {
  constructor(status, message, http = 0) {
    super(message);
    this.status = status;
    this.http = http;
  }

  /** For a note: the console and the health page say which service is away, and where. */
  get plain() { return this.status === "UNAVAILABLE" ? "Something is away just now." : this.message; }

  /** True where asking again later can help without the person changing anything. */
  get passing() {
    return this.http === 0 || this.http === 429 || this.http >= 500;
  }
}

async function request(path, { params = {}, method = "GET", body, signal, keepalive = false } = {}) {
  const query = new URLSearchParams(Object.entries(params).filter(([, v]) => v !== null && v !== undefined && v !== ""));
  const url = new URL(query.size ? `${path}?${query}` : path, ROOT);
  const timeout = AbortSignal.timeout(TIMEOUT_MS);
  const headers = body ? { "content-type": "application/json" } : {};
  let answer, text;
  try {
    answer = await fetch(url, {
      method, headers, keepalive, cache: "no-store",
      body: body ? JSON.stringify(body) : undefined,
      signal: signal ? AbortSignal.any([signal, timeout]) : timeout,
    });
    text = await answer.text();
  } catch (cause) {
    if (signal?.aborted) throw cause; // the page moved on: no caller waits
    throw timeout.aborted
      ? new ApiError("DEADLINE_EXCEEDED", "The server took too long to answer.")
      : new ApiError("UNREACHABLE", "The server can't be reached.");
  }
  return { http: answer.status, ok: answer.ok, json: parse(text) };
}

function parse(text) {
  try { return JSON.parse(text); } catch { return null; }
}

async function call(path, options) {
  const { http, ok, json } = await request(path, options);
  if (ok && json) return json;
  const error = json?.error ?? {};
  throw new ApiError(error.status ?? "UNKNOWN", error.message ?? `The server answered ${http} without a reason.`, http);
}

export const listUsers = ({ q, after, limit = 20, signal }) =>
  call("v1/users", { params: { q, after, limit }, signal });

export const getUser = (user, signal) => call(`v1/users/${encodeURIComponent(user)}`, { signal });

export const getPin = (pin, signal) => call(`v1/pins/${encodeURIComponent(pin)}`, { signal });

/**
 * One page of a feed. The tokens of the last writes go along, so that the page shows what
 * was just done. If the server refuses them (its log was reset), they are dropped once.
 */
export async function getFeed(feed, { user, cursor, limit = 25, explain = false, signal }) {
  const ask = (token) => call(`v1/feeds/${encodeURIComponent(feed)}`, {
    params: { user, limit, cursor, token, explain: explain ? "true" : null }, signal,
  });
  await Promise.race([Promise.allSettled(writing), pause(WRITE_WAIT_MS)]);
  const token = recent();
  try {
    return await ask(token);
  } catch (error) {
    if (!token || error.http !== 400 || !/token/i.test(error.message)) throw error;
    forget();
    return ask("");
  }
}

/**
 * Writes events. Each has an idempotency id, so a POST whose answer was lost can be sent
 * again without counting twice; events that have one already keep it.
 */
export async function postEvents(events, { keepalive = false } = {}) {
  for (const event of events) event.id ??= randomId();
  const seen = events.every((e) => GLANCES.has(e.action));
  const sent = call("v1/events", { method: "POST", body: { events }, keepalive });
  if (!seen) {
    writing.add(sent);
    sent.catch(() => {}).finally(() => writing.delete(sent));
  }
  const answer = await sent;
  remember(answer.token, seen);
  return answer;
}

export async function takeDown(pin) {
  const answer = await call(`v1/pins/${encodeURIComponent(pin)}`, { method: "DELETE" });
  remember(answer.token);
  return answer;
}

export const getModels = (signal) => call("v1/models", { signal });

export const promoteModel = ({ name, version }, force) =>
  call(`v1/models/${encodeURIComponent(name)}/${version}/promotion`, { method: "POST", params: { force: force ? "true" : null } });

export const rollbackModel = () => call("v1/models/rollback", { method: "POST" });

/** 503 is an answer here, not a failure: it says which processes are not ready. */
export async function getHealth(signal) {
  const { http, json } = await request("healthz", { signal });
  if (json && Array.isArray(json.processes)) return json;
  throw new ApiError(json?.error?.status ?? "UNKNOWN", json?.error?.message ?? `The server answered ${http} without a report.`, http);
}

/** 1 to 2^63: far from the ids that are reserved. */
export function randomId() {
  return String((crypto.getRandomValues(new BigUint64Array(1))[0] >> 1n) + 1n);
}
