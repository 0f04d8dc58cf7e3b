// The menu that chooses a board to save to, or makes one: one popover, moved to whichever card asks.

import { el, icon } from "./dom.js";
import { save, saveToNew } from "./actions.js";

const LONGEST = 200;

let menu = null;
let opener = null;

export async function openSaveMenu(entry, anchor) {
  menu ??= build();
  const { session, item } = entry;
  await session.loading;
  const chosen = session.saved.get(item.pin) ?? session.defaultBoard();
  const rows = session.boards.map((board) => el("button", {
    type: "button", role: "menuitemradio", "aria-checked": String(board.id === chosen?.id), tabindex: "-1",
      "data-testid": "save-board", "data-board": board.id,
    onclick: () => { menu.hidePopover(); save(entry, board); },
  }, el("span", { dir: "auto" }, board.title || `board ${board.id}`), board.id === chosen?.id ? icon("check") : null));
  menu.replaceChildren(...[
    rows.length ? el("div", { role: "menu", "aria-label": "Your boards" }, el("p", { class: "menu-title", role: "presentation" }, "Save to"), rows) : null,
    newBoard(entry, !rows.length)].filter(Boolean));
  opener = anchor;
  // A modal dialog makes everything outside it inert, a popover in the body too.
  (anchor.closest("dialog") ?? document.body).append(menu);
  menu.showPopover();
  put(anchor);
  (menu.querySelector('[aria-checked="true"]') ?? menu.querySelector("input, button"))?.focus();
}

/** A line to name a board in, which is made and saved to. */
function newBoard(entry, first) {
  const name = el("input", { type: "text", id: "new-board", maxlength: LONGEST, autocomplete: "off", "data-testid": "new-board",
    placeholder: "Name it" });
  const make = (event) => {
    event.preventDefault();
    const title = name.value.trim();
    if (!title) return name.focus();
    menu.hidePopover();
    saveToNew(entry, title);
  };
  return el("form", { class: "menu-new", onsubmit: make },
    el("label", { class: "menu-title", for: "new-board" }, first ? "Make your first board" : "Or make a board"),
    el("span", {}, name, el("button", { type: "submit", class: "button", "data-testid": "new-board-make" }, "Save")));
}

function build() {
  const node = el("div", { class: "menu", popover: "auto", role: "dialog", "aria-label": "Choose a board",
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
  const rows = [...menu.querySelectorAll('[role="menuitemradio"]')], at = rows.indexOf(document.activeElement);
  const next = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: rows.length - 1 }[event.key];
  event.stopPropagation(); // j, k, s and x mean nothing in here
  if (next === undefined || !rows.length || event.target.matches("input")) return;
  event.preventDefault();
  rows[(next + rows.length) % rows.length].focus();
}
