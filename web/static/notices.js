// The notices of the feed page when it shows no pins: failed, empty, at the end.

import { byId, el } from "./dom.js";
import { plural, sentence } from "./format.js";

/** Fills the place under the cards with one message, or with nothing. */
export function tail(...content) {
  byId("tail").replaceChildren(...content);
}

export function failed({ message, wait, first }, retry, restart) {
  tail(el("div", { class: "state state-error", "data-testid": "feed-error", role: "alert" },
    el("h2", {}, first ? "The feed could not be loaded" : "The next pins could not be loaded"),
    el("p", { dir: "auto" }, sentence(message)),
    wait ? el("p", { class: "quiet" }, `Trying again in ${wait / 1000} s.`) : null,
    el("p", {},
      el("button", { class: "button", type: "button", "data-testid": "feed-retry", onclick: retry }, "Try now"),
      first ? null : el("button", { class: "button plain", type: "button", onclick: restart }, "Start over"))));
}

/** The mesh had nothing but the last feed, and that is on the page already. */
export function waiting({ wait }, retry) {
  tail(el("div", { class: "state", "data-testid": "feed-waiting", role: "status" },
    el("h2", {}, "Waiting for fresh pins"),
    el("p", { class: "quiet" }, `Looking again in ${wait / 1000} s.`),
    el("p", {}, el("button", { class: "button", type: "button", "data-testid": "feed-retry", onclick: retry }, "Look now"))));
}

/** Where more comes from, by feed. */
const MORE = {
  following: "New ones appear as the people and boards you follow save them.",
  interest: "New ones appear as pins join your interests, those you follow and those you save from.",
  picked: "Save a few more pins and it goes on from there.",
  home: "New ones appear as pins are saved, and as you save, hide and follow.",
};

export function ended(shown, session, feed) {
  const text = shown
    ? [el("h2", {}, "That's all for now"), el("p", {}, `${plural(shown, "pin")} shown. ${MORE[feed]}`)]
    : [el("h2", {}, "Nothing here yet"),
      el("p", {}, `Nothing new for ${session.name} in this feed. Follow a few boards, people or interests and it fills within seconds.`)];
  tail(el("div", { class: "state", "data-testid": "end-of-feed", role: "status" }, text));
}

const LAST = "Showing your last feed: a fresh one could not be made just now.";
const POPULAR = "Showing what is popular with everybody: your feed could not be made just now.";
const LESS = "This feed may be less fresh or less complete than usual.";

/** names: the stages that the newest page did without; a page that lacks nothing takes the notice away. source: of its first pin;
 *  a page without any leaves the notice of those before. */
export function degraded(names, reload, source) {
  const box = byId("notice");
  box.dataset.lost = names.join(" "); // for developers; "why this" says it in words
  box.hidden = !names.length;
  if (box.hidden) return void box.replaceChildren();
  const said = box.firstElementChild?.textContent;
  const fell = source === "popular_pins" ? POPULAR : source || !said ? LAST : said;
  const text = names.includes("fallback") ? fell : LESS;
  if (said === text) return; // said already: a live region speaks at every change
  box.replaceChildren(el("span", {}, text), el("button", { class: "button plain", type: "button", onclick: reload }, "Refresh"));
}
