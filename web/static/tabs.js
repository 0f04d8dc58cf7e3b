// The four feeds as tabs: one tab stop, arrows move and choose, as in the ARIA patterns.

import { byId } from "./dom.js";

/** chosen(feed, again) is called on a choice; again when the shown feed is chosen once more. */
export function tabs(chosen) {
  const list = [...document.querySelectorAll('[role="tab"]')];
  const panel = byId("panel");

  function show(feed) {
    const held = list.includes(document.activeElement); // after back, focus follows the choice
    for (const tab of list) {
      const on = tab.dataset.feed === feed;
      tab.setAttribute("aria-selected", String(on));
      tab.tabIndex = on ? 0 : -1;
      if (on) {
        if (held) tab.focus();
        panel.setAttribute("aria-labelledby", tab.id);
        const row = tab.parentElement; // on a phone the row scrolls sideways
        row.scrollTo({ left: tab.offsetLeft - (row.clientWidth - tab.offsetWidth) / 2 });
      }
    }
  }

  list.forEach((tab, i) => {
    tab.addEventListener("click", () => chosen(tab.dataset.feed, tab.getAttribute("aria-selected") === "true"));
    tab.addEventListener("keydown", (event) => {
      const to = { ArrowRight: i + 1, ArrowLeft: i - 1, Home: 0, End: list.length - 1 }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      const next = list[(to + list.length) % list.length];
      next.focus();
      chosen(next.dataset.feed, false);
    });
  });
  return { show };
}
