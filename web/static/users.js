// Whose feed is shown: a combobox that searches people as one types (ARIA combobox with a
// listbox popup), and a few people to begin with when no reader is chosen.

import { byId, el } from "./dom.js";
import { getHealth, listUsers } from "./api.js";
import { plural } from "./format.js";

const TYPING_MS = 150;
const IS_ID = /^\d{1,20}$/;

/** chosen(user, name) is called when a person was picked. */
export function userChooser(chosen) {
  const input = byId("user-input"), list = byId("user-list");
  let shown = "", rows = [], active = -1, after = null, asking = null, typing = 0;
  let listed = null; // the search that the rows answer

  function open(on) {
    list.hidden = !on;
    input.setAttribute("aria-expanded", String(on));
    if (!on) point(-1);
  }

  function point(at) {
    rows[active]?.setAttribute("aria-selected", "false");
    active = at;
    const row = rows[at];
    if (!row) return input.removeAttribute("aria-activedescendant");
    row.setAttribute("aria-selected", "true");
    row.scrollIntoView({ block: "nearest" });
    input.setAttribute("aria-activedescendant", row.id);
    if (at > rows.length - 4) more();
  }

  function row({ user, name, followers }) {
    const node = el("li", { role: "option", id: `user-${user}`, "aria-selected": "false", "data-testid": "user-option", "data-user": user,
      // pointerdown would blur the input and close the list before the click came
      onpointerdown: (event) => event.preventDefault(), onclick: () => take(user, name) },
      el("span", { class: "user-name", dir: "auto" }, name),
      el("span", { class: "user-more" }, followers === undefined ? `id ${user}` : `${plural(followers, "follower")} · id ${user}`));
    rows.push(node);
    return node;
  }

  async function search(q) {
    clearTimeout(typing);
    asking?.abort();
    const mine = (asking = new AbortController());
    listed = null;
    let answer;
    try {
      answer = await listUsers({ q, signal: mine.signal });
    } catch (error) {
      if (mine.signal.aborted) return;
      rows = [];
      list.replaceChildren(el("li", { class: "user-note", role: "presentation" }, error.message));
      return open(true);
    }
    if (mine.signal.aborted) return;
    rows = [];
    point(-1);
    listed = q;
    list.replaceChildren(...answer.users.map(row));
    // Any id works, listed or not: an unknown person has an empty history.
    if (IS_ID.test(q) && !answer.users.some((u) => u.user === q)) list.append(row({ user: q, name: `user ${q}` }));
    if (!rows.length) list.replaceChildren(el("li", { class: "user-note", role: "presentation" },
      q ? `Nobody is called “${q}”.` : "There are no users yet."));
    after = answer.next ? { q, after: answer.next } : null;
    open(document.activeElement === input);
  }

  async function more() {
    if (!after) return;
    const { q, after: from } = after, mine = asking;
    after = null; // one page at a time
    try {
      const answer = await listUsers({ q, after: from, signal: mine.signal });
      if (mine !== asking) return; // another search has filled the list meanwhile
      list.append(...answer.users.map(row));
      after = answer.next ? { q, after: answer.next } : null;
    } catch { /* scrolling again asks again once the list is reopened */ }
  }

  /** Takes the row pointed at, else the first; a person who types faster than answers come gets the match for the newest text. */
  async function enter() {
    const q = wanted();
    if (list.hidden && !q) return;
    if (listed !== q) await search(q);
    if (listed === q && q === wanted() && !list.hidden) rows[active < 0 ? 0 : active]?.click();
  }

  const wanted = () => (input.value === shown ? "" : input.value.trim());

  function take(user, name) {
    clearTimeout(typing);
    asking?.abort();
    open(false);
    show(name);
    input.blur();
    chosen(user, name);
  }

  function show(name) {
    shown = name ?? "";
    input.value = shown;
  }

  input.addEventListener("focus", () => {
    input.select();
    search("");
  });
  input.addEventListener("click", () => list.hidden && search(""));
  input.addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(() => search(wanted()), TYPING_MS);
  });
  input.addEventListener("blur", () => {
    clearTimeout(typing);
    open(false);
    input.value = shown;
  });
  list.addEventListener("scroll", () => list.scrollTop + list.clientHeight > list.scrollHeight - 80 && more());
  input.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) {
      event.preventDefault();
      if (list.hidden) search(wanted());
      else if (rows.length) point((active + step + rows.length) % rows.length);
    } else if (event.key === "Enter") {
      event.preventDefault();
      enter();
    } else if (event.key === "Escape") {
      input.blur();
    }
  });
  return { show, focus: () => input.focus() };
}

/** People to begin with, for a page opened without ?user=. */
export async function welcome(host, chosen) {
  const people = el("ul", { class: "people" });
  host.replaceChildren(el("div", { class: "state welcome", "data-testid": "welcome" },
    el("h2", {}, "Whose feed would you like to see?"),
    el("p", {}, "Choose a person here, or search for anybody above."), people));
  try {
    const { users } = await listUsers({ limit: 12 });
    people.append(...users.map(({ user, name, followers }) => el("li", {},
      el("button", { type: "button", class: "person", "data-testid": "welcome-user", "data-user": user, onclick: () => chosen(user, name) },
        el("span", { class: "user-name", dir: "auto" }, name), el("span", { class: "user-more" }, plural(followers ?? 0, "follower"))))));
    if (!users.length) nobody(host, chosen, people);
  } catch (error) {
    people.replaceWith(el("p", { class: "bad" }, error.message),
      el("button", { type: "button", class: "button", onclick: () => welcome(host, chosen) }, "Try again"));
  }
}

const LOADING_MS = 2000;

/** No people yet: while the first data is being loaded that is said, and looked at again until they are there. */
async function nobody(host, chosen, place) {
  const said = el("p", { role: "status", "data-testid": "no-users" }, "There are no users yet. Load some, then come back.");
  place.replaceWith(said);
  const loading = await getHealth().then((report) => report.loading, () => "");
  if (!loading || !said.isConnected) return;
  said.textContent = `The mesh has just started: ${loading}. People appear here as soon as they are there.`;
  setTimeout(() => said.isConnected && welcome(host, chosen), LOADING_MS);
}
