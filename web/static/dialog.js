// The shared part of every dialog here. <dialog> with showModal() already traps focus, closes on
// Escape and makes the rest of the page inert; this adds the close button, a click outside,
// and giving focus back to where it came from.

import { el, icon } from "./dom.js";

export function dialog({ testid, name, className }) {
  const body = el("div", { class: "dialog-body" });
  const close = el("button", { type: "button", class: "round dialog-close", "aria-label": "Close",
    "data-testid": `${testid}-close`, onclick: () => node.close() }, icon("close"));
  const node = el("dialog", { class: `dialog ${className}`, "data-testid": testid, "aria-label": name }, close, body);
  let from = null;
  node.addEventListener("click", (event) => event.target === node && node.close());
  node.addEventListener("close", () => {
    // The opener may have been hidden from in here: the code that hid it has moved the focus on by then.
    if (from?.isConnected && !from.closest("[inert]")) from.focus({ preventScroll: true });
    from = null;
  });
  document.body.append(node);
  return {
    node, body,
    get open() { return node.open; },
    show(...content) {
      body.replaceChildren(...content);
      if (!node.open) {
        from = document.activeElement;
        node.showModal();
      }
      node.scrollTop = body.scrollTop = 0;
    },
    close: () => node.close(),
  };
}
