// README's examples as a frontend writes them, against the types that /openapi.json generates.
import type { operations, paths } from "./generated";

type Posted = operations["postEvents"]["requestBody"]["content"]["application/json"];
type Accepted = operations["postEvents"]["responses"]["202"]["content"]["application/json"];
type Page = operations["getFeed"]["responses"]["200"]["content"]["application/json"];
type Problem = operations["getPin"]["responses"]["404"]["content"]["application/problem+json"];

// The README's POST: nothing but what was done is needed.
export const posted: Posted = {
  events: [
    { action: "impression", user: "1", pin: "8080", surface: "following", id: "9002" },
    { action: "save", user: "1", pin: "8080", board: "1", surface: "following", id: "9003" },
    { action: "follow_interest", user: "1", target: 12 },
  ],
};

// GET /v1/feeds/home?user=1&limit=25, and without a limit; the next page by its cursor.
export const asked: operations["getFeed"]["parameters"] = { path: { feed: "home" }, query: { user: "1", limit: 25 } };
export const least: operations["getFeed"]["parameters"] = { path: { feed: "following" }, query: { user: "1" } };
export const people: operations["listUsers"]["parameters"] = { query: { limit: 3 } };

export function next(page: Page): operations["getFeed"]["parameters"] | null {
  return page.cursor === null ? null : { path: { feed: "home" }, query: { user: "1", cursor: page.cursor } };
}

export function titles(page: Page): string[] {
  return page.items.map((item) => `${item.title} on ${item.board?.title ?? "no board"}: ${item.reason}`);
}

export function shown(written: Accepted, failed: Problem): string {
  return `${written.token} ${failed.status} ${failed.detail} ${failed.error.status} ${failed.instance ?? ""}`;
}

// @ts-expect-error: a feed that there is not
export const wrong: operations["getFeed"]["parameters"] = { path: { feed: "popular" }, query: { user: "1" } };
// @ts-expect-error: an event says what was done
export const nothing: Posted = { events: [{ user: "1" }] };
export type TakeDown = paths["/v1/pins/{pin}"]["delete"];
