// What the feed page says when it is not showing pins: coming, failed, empty, at the end.

import { byId, el } from "./dom.js";
import { plural, sentence, words } from "./format.js";

/** Fills the place under the cards with one message, or with nothing. */
export function tail(...content) {
  byId("tail").replaceChildren(...content);
}

export function coming(feedName, message) {
  tail(el("div", { class: "state", "data-testid": "feed-coming", role: "status" },
    el("div", { class: "state-mark", "aria-hidden": "true" }, "◔"),
    el("h2", {}, `${feedName} is coming`),
    el("p", { dir: "auto" }, sentence(message)),
    el("p", { class: "quiet" }, "This page looks again every few seconds and will show the feed as soon as it is there.")));
}

export function failed({ message, status, wait, first }, retry, restart) {
  tail(el("div", { class: "state state-error", "data-testid": "feed-error", role: "alert" },
    el("h2", {}, first ? "The feed could not be loaded" : "The next pins could not be loaded"),
    el("p", { dir: "auto" }, sentence(message)),
    el("p", { class: "quiet" }, [status, wait ? `trying again in ${wait / 1000} s` : null].filter(Boolean).join(" · ")),
    el("p", {},
      el("button", { class: "button", type: "button", "data-testid": "feed-retry", onclick: retry }, "Try now"),
      first ? null : el("button", { class: "button plain", type: "button", onclick: restart }, "Start over"))));
}

export function ended(shown, session) {
  const text = shown
    ? [el("h2", {}, "That's all for now"), el("p", {}, `${plural(shown, "pin")} shown. New ones appear as the people and boards you follow save them.`)]
    : [el("h2", {}, "Nothing here yet"),
      el("p", {}, `Nothing new for ${session.name} in this feed. Follow a few boards, people or interests and it fills within seconds.`)];
  tail(el("div", { class: "state", "data-testid": "end-of-feed", role: "status" }, text));
}

/** names: every degraded stage of the pages shown so far. */
export function degraded(names, reload) {
  const box = byId("notice");
  box.hidden = names.size === 0;
  if (box.hidden) return void box.replaceChildren();
  const others = [...names].filter((name) => name !== "fallback").map(words);
  const parts = [];
  if (names.has("fallback")) parts.push("Showing your last feed: a fresh one could not be made just now.");
  if (others.length) parts.push(`Some sources were unavailable (${others.join(", ")}), so this feed may be less fresh or less complete than usual.`);
  box.replaceChildren(el("span", {}, parts.join(" ")), el("button", { class: "button plain", type: "button", onclick: reload }, "Refresh"));
}
