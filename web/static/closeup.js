// A closer look at one pin: the cover large, where it came from, whom and what to follow,
// and what the server knows of it.

import { chips, link, paintSaved, saveBar, titleOf } from "./card.js";
import { cover } from "./art.js";
import { dialog } from "./dialog.js";
import { el, icon } from "./dom.js";
import { ago } from "./format.js";
import { getPin } from "./api.js";
import { lookAt, lookAway } from "./route.js";
import { hide, report, takeDownPin, toggleFollow } from "./actions.js";

/**
 * beside(entry, ±1) is the neighbouring entry of the feed or null; entryOf(pin) that of a pin which is on the page; session()
 * the reader's. Opening one goes to an address of its own, and closing it goes back.
 */
export function closeup({ why, beside, entryOf, session }) {
  const box = dialog({ testid: "closeup-dialog", name: "Closer look", className: "closeup" });
  let shown = null, asking = null;

  box.node.addEventListener("close", lookAway);

  /** What the address says: a pin to look at, or none. */
  function follow(pin) {
    if (!pin) return void (box.open && box.close());
    if (box.open && shown?.item.pin === pin) return;
    open(entryOf(pin) ?? { item: { pin, title: "", link: "", interests: [] }, session: session(), surface: "closeup", page: null });
  }

  function open(entry) {
    shown = entry;
    lookAt(entry.item.pin);
    asking?.abort();
    asking = new AbortController();
    if (entry.session) report("closeup", entry);
    render(entry);
    fetchDetail(entry, asking.signal);
  }

  function render(entry) {
    const { item, session } = entry, title = titleOf(item);
    const bar = session && saveBar(entry, title,
      entry.page ? button("why", "Why this", "why", () => why(entry)) : null,
      button("hide", "Hide", "hide", () => { box.close(); hide(entry); }));
    const arrows = el("div", { class: "closeup-steps" }, step(entry, -1, "Previous"), step(entry, 1, "Next"));
    box.show(
      el("div", { class: "closeup-cover" }, cover({ pin: item.pin, title, interests: item.interests })),
      el("div", { class: "closeup-text" },
        el("h2", { dir: "auto", id: "closeup-title", "data-testid": "closeup-title" }, title),
        link(entry, "closeup-link") ?? el("p", { class: "quiet" }, "This pin has no link."),
        el("p", { class: "card-reason", dir: "auto" }, item.reason ?? ""),
        item.owner ? followRow(entry, "user", item.owner.id, item.owner.name || `user ${item.owner.id}`, "saved by") : null,
        item.board ? followRow(entry, "board", item.board.id, item.board.title || `board ${item.board.id}`, "on the board") : null,
        el("div", { id: "closeup-detail", "aria-live": "polite" }, chips(item.interests)),
        bar, arrows));
    if (session) paintSaved(box.body, { item, session });
  }

  function button(name, label, glyph, onclick) {
    return el("button", { type: "button", class: "button plain", "data-testid": `closeup-${name}`, onclick }, icon(glyph), el("span", {}, label));
  }

  function step(entry, by, label) {
    const next = beside(entry, by);
    return el("button", { type: "button", class: "button plain", "data-testid": `closeup-${label.toLowerCase()}`,
      disabled: !next, onclick: () => move(by) }, label);
  }

  function move(by) {
    const next = shown && beside(shown, by);
    if (!next) return;
    open(next);
    box.body.querySelector(`[data-testid="closeup-${by > 0 ? "next" : "previous"}"]:enabled`)?.focus();
  }

  function followRow(entry, kind, id, name, label) {
    const on = entry.session.follows[kind].has(id);
    return el("div", { class: "follow-row", "data-follow": `${kind}:${id}` },
      el("p", {}, el("span", { class: "quiet" }, label), el("strong", { dir: "auto" }, name)),
      el("button", { type: "button", class: `button ${on ? "plain" : ""}`, "aria-pressed": String(on), "data-testid": `follow-${kind}`, "data-id": id,
        "aria-label": `${on ? "Unfollow" : "Follow"} ${name}`,
        onclick: () => toggleFollow(entry, kind, { id, name }) }, on ? "Following" : "Follow"));
  }

  async function fetchDetail(entry, signal) {
    let pin;
    try {
      pin = await getPin(entry.item.pin, signal);
    } catch (error) {
      if (!signal.aborted) detail(el("p", { class: "quiet" }, `More about this pin could not be loaded: ${error.plain ?? error.message}`),
        chips(entry.item.interests));
      return;
    }
    if (signal.aborted) return;
    if (!entry.page && !entry.item.title && (pin.title || pin.link)) {
      // Opened by its address: only now is there something to show.
      entry.item = { ...entry.item, title: pin.title, link: pin.link, interests: pin.interests.map((each) => each.name) };
      render(entry);
    }
    const facts = [
      Number.isFinite(pin.created_ms) && pin.created_ms > 0 ? ["created", ago(pin.created_ms)] : null,
      entry.item.at_ms ? ["saved", ago(entry.item.at_ms)] : null,
    ].filter(Boolean);
    detail(
      pin.taken_down ? el("p", { class: "bad", "data-testid": "taken-down" }, "This pin has been taken down.") : null,
      pin.interests?.length ? el("div", { class: "interests" }, el("p", { class: "quiet" }, "about"),
        pin.interests.map((i) => interest(entry, i))) : null,
      el("dl", { class: "facts" }, facts.flatMap(([k, v]) => [el("dt", {}, k), el("dd", {}, v)])),
      pin.taken_down || !entry.session ? null : moderation(entry));
  }

  const detail = (...content) => box.body.querySelector("#closeup-detail")?.replaceChildren(...content.filter(Boolean));

  function interest(entry, { id, name }) {
    if (!entry.session) return el("span", { class: "chip", dir: "auto" }, name);
    const on = entry.session.follows.interest.has(id);
    return el("button", { type: "button", class: "chip chip-button", "aria-pressed": String(on),
      "data-testid": "follow-interest", "data-id": id, "data-follow": `interest:${id}`,
      "aria-label": `${on ? "Unfollow" : "Follow"} ${name}`, onclick: () => toggleFollow(entry, "interest", { id, name }) },
        el("span", { dir: "auto" }, name), on ? icon("check") : el("span", { "aria-hidden": "true" }, "+"));
  }

  function moderation(entry) {
    const really = el("button", { type: "button", class: "button danger", "data-testid": "take-down",
      onclick: () => takeDownPin(entry, box.close) }, "Take down for everybody");
    return el("details", { class: "moderation" }, el("summary", {}, "Moderation"),
      el("p", {}, "Removes this pin from every feed and can't be undone here."), really);
  }

  /** After a follow or a save: repaint what it changed, keeping focus where it was. */
  function repaint(session) {
    if (!box.open || shown?.session !== session) return;
    paintSaved(box.body, shown);
    for (const row of box.body.querySelectorAll("[data-follow]")) {
      const [kind, id] = row.dataset.follow.split(":"), control = row.matches("button") ? row : row.querySelector("button");
      const name = control.getAttribute("aria-label").replace(/^(Unf|F)ollow /, "");
      const fresh = kind === "interest" ? interest(shown, { id, name }) : followRow(shown, kind, id, name, row.querySelector(".quiet").textContent);
      const focused = row.contains(document.activeElement);
      row.replaceWith(fresh);
      if (focused) (fresh.matches("button") ? fresh : fresh.querySelector("button")).focus();
    }
  }

  return { open, follow, move, repaint, body: box.body, close: box.close, get isOpen() { return box.open; }, get entry() { return box.open ? shown : null; } };
}
