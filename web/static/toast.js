// Short notes at the bottom of the page, read out by screen readers.

import { byId, el } from "./dom.js";

const SHOWN_MS = 5000;
const ACTION_MS = 10_000; // where there is something to decide
const AT_ONCE = 2;

/** toast("Saved to Clay"), optionally with one action: {label, run}. kind "error" is assertive. Returns what takes it away. */
export function toast(message, { kind = "info", action = null, forMs = action ? ACTION_MS : SHOWN_MS } = {}) {
  const host = openHost();
  const note = el("div", { class: `toast toast-${kind}`, "data-testid": "toast", role: kind === "error" ? "alert" : "status" },
    el("span", { dir: "auto" }, message));
  const close = () => note.remove();
  if (action) {
    note.append(el("button", { class: "toast-action", type: "button", "data-testid": "toast-action",
      onclick: () => { close(); action.run(); } }, action.label));
  }
  host.append(note);
  while (host.children.length > AT_ONCE) host.firstElementChild.remove();
  setTimeout(close, forMs);
  return close;
}

/**
 * The host is the live region of index.html. An open <dialog> makes all else inert and lies
 * above it, so while one is open the notes live in the dialog.
 */
function openHost() {
  const host = byId("toasts");
  const dialogs = document.querySelectorAll("dialog[open]");
  (dialogs[dialogs.length - 1] ?? document.body).append(host);
  return host;
}
