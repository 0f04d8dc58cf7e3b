// The menu that chooses a board to save to: one popover, moved to whichever card asks.

import { el, icon } from "./dom.js";
import { save } from "./actions.js";

let menu = null;
let opener = null;

export function openSaveMenu(entry, anchor) {
  menu ??= build();
  const { session, item } = entry;
  const boards = session.boardsFor(item);
  const chosen = session.saved.get(item.pin) ?? session.defaultBoard(item);
  const rows = boards.map((board) => el("button", {
    type: "button", role: "menuitemradio", "aria-checked": String(board.id === chosen?.id), tabindex: "-1",
      "data-testid": "save-board", "data-board": board.id,
    onclick: () => { menu.hidePopover(); save(entry, board); },
  }, el("span", { dir: "auto" }, board.title || `board ${board.id}`), board.id === chosen?.id ? icon("check") : null));
  menu.replaceChildren(
    el("p", { class: "menu-title", role: "presentation" }, session.boards.length ? "Save to" : "Save to the pin's own board"),
    ...(rows.length ? rows : [el("p", { class: "menu-empty" }, "No board to save to yet.")]));
  opener = anchor;
  // A modal dialog makes everything outside it inert, a popover in the body too.
  (anchor.closest("dialog") ?? document.body).append(menu);
  menu.showPopover();
  put(anchor);
  (menu.querySelector('[aria-checked="true"]') ?? menu.querySelector("button"))?.focus();
}

function build() {
  const node = el("div", { class: "menu", popover: "auto", role: "menu", "aria-label": "Choose a board",
    "data-testid": "save-menu", onkeydown: keys });
  node.addEventListener("toggle", (event) => {
    if (event.newState === "closed" && (node.contains(document.activeElement) || document.activeElement === document.body)) opener?.focus();
  });
  // The menu is placed once: scrolling away would leave it hanging in the air.
  addEventListener("scroll", () => node.matches(":popover-open") && node.hidePopover(), { passive: true });
  return node;
}

function put(anchor) {
  const at = anchor.getBoundingClientRect(), { offsetWidth: width, offsetHeight: height } = menu;
  const below = at.bottom + 6 + height <= innerHeight || at.top < height;
  menu.style.left = `${Math.max(8, Math.min(at.right - width, innerWidth - width - 8))}px`;
  menu.style.top = `${Math.max(8, below ? Math.min(at.bottom + 6, innerHeight - height - 8) : at.top - height - 6)}px`;
}

function keys(event) {
  const rows = [...menu.querySelectorAll("button")], at = rows.indexOf(document.activeElement);
  const next = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: rows.length - 1 }[event.key];
  if (event.key === "Tab") menu.hidePopover();
  event.stopPropagation(); // j, k, s and x mean nothing in here
  if (next === undefined || !rows.length) return;
  event.preventDefault();
  rows[(next + rows.length) % rows.length].focus();
}
