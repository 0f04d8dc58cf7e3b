// One-key shortcuts for the feed. They are off while typing, and can be switched off for
// good: a person who dictates to the computer would set them off by accident.

import { byId, el } from "./dom.js";
import { dialog } from "./dialog.js";

const KEY = "feedmesh.shortcuts";
const HELP = [
  ["j / k", "next, previous pin"], ["← ↑ → ↓", "to the pin beside, above or below"], ["Enter", "closer look"], ["s", "save, or take back"],
  ["x", "hide"], ["w", "why this"], ["o", "open the link"], ["r", "refresh the feed"], ["/", "find a person"], ["?", "this help"], ["Esc", "close"],
];
const ARROWS = { ArrowUp: "up", ArrowDown: "down", ArrowLeft: "left", ArrowRight: "right" };

/** `feed` answers current(), step(±1), go(direction), and does save, hide, why, look, follow, refresh on a card. */
export function keyboard(feed, closeup) {
  const help = dialog({ testid: "help-dialog", name: "Keyboard shortcuts", className: "help" });
  byId("help-open")?.addEventListener("click", showHelp);

  function showHelp() {
    const toggle = el("input", { type: "checkbox", id: "shortcuts-on", checked: enabled(), onchange: () => enable(toggle.checked) });
    help.show(el("h2", {}, "Keyboard"),
      el("dl", { class: "keys" }, HELP.flatMap(([keys, what]) => [el("dt", {}, el("kbd", {}, keys)), el("dd", {}, what)])),
      el("p", {}, el("label", { for: "shortcuts-on" }, toggle, "Single-key shortcuts")));
  }

  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || busy(event.target)) return;
    if (event.key === "?") return act(event, showHelp);
    if (!enabled()) return;
    if (closeup.isOpen) return inCloseup(event);
    if (!document.querySelector("dialog[open]")) inFeed(event);
  });

  function inFeed(event) {
    const card = feed.current(), key = event.key;
    if (key === "j" || key === "k") return act(event, () => feed.step(key === "j" ? 1 : -1));
    if (key === "r") return act(event, feed.refresh);
    if (key === "/") return act(event, () => byId("user-input").focus());
    if (!card) return;
    // Arrows scroll the page unless a card has the focus; inside its buttons they do nothing.
    if (ARROWS[key] && event.target.closest(".card")) return act(event, () => feed.go(ARROWS[key]));
    if (key === "Enter" && event.target === card) return act(event, () => feed.look(card));
    onPin(event, feed.entryOf(card));
  }

  function inCloseup(event) {
    const entry = closeup.entry;
    if (document.querySelectorAll("dialog[open]").length > 1) return;
    if (event.key === "j" || event.key === "ArrowRight") return act(event, () => closeup.move(1));
    if (event.key === "k" || event.key === "ArrowLeft") return act(event, () => closeup.move(-1));
    onPin(event, entry);
  }

  function onPin(event, entry) {
    const run = { s: feed.save, x: feed.hide, w: feed.why, o: feed.follow }[event.key];
    if (run && entry) act(event, () => run(entry));
  }
}

function act(event, run) {
  event.preventDefault();
  run();
}

/** Where a letter is a letter. (The tabs handle their arrows before this is asked.) */
function busy(target) {
  return target.matches?.('input:not([type="checkbox"]), textarea, select, [contenteditable], [role="option"]') || Boolean(target.closest?.("[popover]"));
}

function enabled() {
  try { return localStorage.getItem(KEY) !== "off"; } catch { return true; }
}

function enable(on) {
  try { localStorage.setItem(KEY, on ? "on" : "off"); } catch { /* stays as it was */ }
}
