// One pin in the waterfall.

import { cover } from "./art.js";
import { el, hostOf, icon, safeLink } from "./dom.js";
import { words } from "./format.js";
import { hide, report, toggleSave } from "./actions.js";
import { openSaveMenu } from "./save_menu.js";

const CHIPS = 3;

export function titleOf(item) {
  if (item.title) return item.title;
  const url = safeLink(item.link);
  return url ? hostOf(url) : `pin ${item.pin}`;
}

/** entry is {item, session, surface, page}; open and why show the dialogs. */
export function card(entry, { open, why }) {
  const { item } = entry, title = titleOf(item), titleId = `pin-${item.pin}`;
  const look = el("button", { class: "card-cover", type: "button", "data-testid": "card-closeup",
    "aria-label": `Closer look: ${title}`, onclick: () => open(entry) },
    cover({ pin: item.pin, title, interests: item.interests }));
  look.querySelector(".cover-title").id = titleId;
  const node = el("article", { class: "card", "data-testid": "card", "data-pin": item.pin, tabindex: "-1", "aria-labelledby": titleId },
    el("div", { class: "card-body" },
      look,
      el("div", { class: "card-text" },
        link(entry, "card-link"),
        el("p", { class: "card-reason", "data-testid": "card-reason", dir: "auto" }, item.reason || `from ${words(item.source ?? "the feed")}`),
        origin(item),
        chips(item.interests)),
      saveBar(entry, title,
        el("button", { type: "button", class: "round card-why", "data-testid": "card-why", "aria-label": `Why this: ${title}`,
          title: "Why this (w)", onclick: () => why(entry) }, icon("why")),
        el("button", { type: "button", class: "round", "data-testid": "card-hide", "aria-label": `Hide: ${title}`,
          title: "Hide (x)", onclick: () => hide(entry) }, icon("hide")))));
  paintSaved(node, entry);
  return node;
}

/** The way out to the pin's page; null when there is no link a browser may follow. */
export function link(entry, testid) {
  const url = safeLink(entry.item.link);
  if (!url) return null;
  const clicked = () => report("click", entry);
  return el("a", { class: "out-link", href: url.href, target: "_blank", rel: "noopener noreferrer", "data-testid": testid, onclick: clicked,
    onauxclick: (event) => event.button === 1 && clicked() }, el("span", {}, hostOf(url)), icon("out"));
}

/** Board and owner; null when the reason above has named them all. */
function origin({ board, owner, reason }) {
  const onBoard = board && (board.title || `board ${board.id}`), by = owner && (owner.name || `user ${owner.id}`);
  if ([onBoard, by].every((name) => !name || reason?.includes(name))) return null;
  return el("p", { class: "card-origin" },
    onBoard ? el("span", { class: "card-board", dir: "auto" }, onBoard) : null,
    by ? el("span", { class: "card-owner", dir: "auto" }, by) : null);
}

export function chips(names) {
  if (!names?.length) return null;
  const rest = names.length - CHIPS;
  return el("ul", { class: "chips", "aria-label": "Interests" },
    names.slice(0, CHIPS).map((name) => el("li", { class: "chip", dir: "auto" }, name)),
    rest > 0 ? el("li", { class: "chip chip-rest", title: names.slice(CHIPS).join(", ") }, `+${rest}`) : null);
}

/** Save, choose a board, and whatever else belongs in the row. Shared with the closeup. */
export function saveBar(entry, title, ...more) {
  return el("div", { class: "actions", role: "group", "aria-label": `Actions for ${title}` },
    el("div", { class: "split" },
      el("button", { type: "button", class: "save", "data-testid": "card-save", "data-title": title,
        onclick: ({ currentTarget: button }) => toggleSave(entry, () => openSaveMenu(entry, button.nextElementSibling)) },
        icon("save"), el("span", {}, "Save")),
      el("button", { type: "button", class: "save-choose", "data-testid": "card-save-choose", "aria-haspopup": "menu",
        "aria-label": `Choose a board for: ${title}`, title: "Choose a board",
        onclick: (event) => openSaveMenu(entry, event.currentTarget) }, icon("more"))),
    ...more);
}

/** Shows in `root` whether the pin is saved, and names the board the button will use. */
export function paintSaved(root, { session, item }) {
  const button = root.querySelector(".save"), saved = session.saved.get(item.pin);
  const board = saved ?? session.defaultBoard();
  button.setAttribute("aria-pressed", String(Boolean(saved)));
  button.lastElementChild.textContent = saved ? "Saved" : "Save";
  button.setAttribute("aria-label", `${saved ? "Saved" : "Save"}: ${button.dataset.title}`);
  button.title = board ? `${saved ? "Saved to" : "Save to"} ${board.title} (s)` : "Save (s)";
}

export function skeleton(i) {
  return el("div", { class: "card skeleton", "aria-hidden": "true" },
    el("div", { class: "card-body" },
      el("div", { class: "skeleton-cover", style: `aspect-ratio:${[0.8, 1.05, 0.7, 0.92][i % 4]}` }),
      el("div", { class: "skeleton-line" }), el("div", { class: "skeleton-line short" })));
}
