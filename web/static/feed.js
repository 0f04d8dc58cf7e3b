// The feed page: joins the reader, the stream of pages, the waterfall and the dialogs.

import { byId, safeLink } from "./dom.js";
import { Masonry } from "./masonry.js";
import { Impressions } from "./impressions.js";
import { Session } from "./session.js";
import { Stream } from "./stream.js";
import { card, paintSaved, skeleton, titleOf } from "./card.js";
import { closeup } from "./closeup.js";
import { current, go } from "./route.js";
import { eventOf, hide, report, toggleSave } from "./actions.js";
import { keyboard } from "./keyboard.js";
import { openSaveMenu } from "./save_menu.js";
import { degraded, ended, failed, tail, waiting } from "./notices.js";
import { plural } from "./format.js";
import { tabs } from "./tabs.js";
import { userChooser, welcome } from "./users.js";
import { whyPanel } from "./why.js";

const AHEAD_PX = 1400; // the next page is asked for this far before the end is in sight
const SKELETONS = { first: 14, next: 6 };

const host = byId("cards");
const waterfall = new Masonry(host);
const impressions = new Impressions();
const why = whyPanel({
  pin: (pin) => (cards.has(pin) ? titleOf(entries.get(cards.get(pin)).item) : ""),
  board: (id) => [...entries.values()].find(({ item }) => item.board?.id === id)?.item.board.title ?? "",
});
const look = closeup({ why: why.open, beside, entryOf: (pin) => entries.get(cards.get(pin)), session: () => session });

let session = null;
let stream = null;
let entries = new Map(); // card -> entry, in feed order
let cards = new Map(); // pin -> card
let ghosts = [];
let gone = new Map(); // pin -> its hidden card, while the hide can be taken back
let shown = null; // the route that the page shows

const chooser = userChooser((user) => open({ user, feed: current().feed }));
const tab = tabs((feed, again) => (again ? show() : open({ user: current().user, feed })));

function open(to) {
  go(to);
  show();
}

/** Shows what the URL says, from the top. */
async function show() {
  shown = current();
  const { user, feed } = shown;
  stream?.stop();
  impressions.clear();
  entries = new Map();
  cards = new Map();
  ghosts = [];
  gone = new Map();
  waterfall.clear();
  list(false);
  why.close();
  tail();
  degraded([], show);
  delete byId("panel").dataset.model;
  scrollTo(0, 0);
  tab.show(feed);
  byId("panel").setAttribute("aria-busy", "false");
  if (!user) {
    chooser.show("");
    summary(null);
    document.title = "Feedmesh";
    session = null;
    look.follow(shown.pin);
    return welcome(byId("tail"), (chosen) => open({ user: chosen, feed }));
  }
  if (session?.user !== user) become(user);
  else summary(session);
  stream = new Stream({ user, feed, page, state });
  stream.more();
  look.follow(shown.pin);
}

function become(user) {
  const mine = (session = new Session(user));
  const named = () => {
    if (session !== mine) return;
    chooser.show(mine.name);
    summary(mine);
    document.title = `${mine.name} · Feedmesh`;
  };
  mine.addEventListener("saved", ({ detail }) => repaint(mine, cards.get(detail.pin)));
  mine.addEventListener("hidden", ({ detail }) => session === mine && collapse(cards.get(detail.pin)));
  mine.addEventListener("unhidden", ({ detail }) => session === mine && comeBack(detail.pin));
  mine.addEventListener("follows", () => { named(); look.repaint(mine); });
  named();
  // The feed does not wait for the profile, nor fail without it.
  mine.load().then(() => entries.forEach((_, node) => repaint(mine, node)), (error) => console.warn("profile:", error.message));
}

function summary(of) {
  byId("heading").textContent = of ? `${of.name}'s ${label(current().feed)} feed` : "Feedmesh";
  const box = byId("summary");
  if (!of?.loaded) return void (box.textContent = "");
  const { board, user, interest } = of.follows;
  const follows = [plural(board.size, "board"), plural(user.size, "person", "people"), plural(interest.size, "interest")];
  box.textContent = `${plural(of.followers, "follower")} · follows ${follows.join(", ")}`;
}

function repaint(mine, node) {
  const entry = entries.get(node);
  if (entry?.session === mine) paintSaved(node, entry);
  look.repaint(mine);
}

/** Adds a page of items; answers how many were new. */
function page(items, from) {
  unghost();
  const fresh = items.filter((item) => !cards.has(item.pin) && !session.hidden.has(item.pin));
  const nodes = fresh.map((item) => {
    const entry = { item, session, surface: from.feed, page: from };
    const node = card(entry, { open: look.open, why: why.open });
    entries.set(node, entry);
    cards.set(item.pin, node);
    return node;
  });
  waterfall.add(nodes);
  if (entries.size) list(true);
  nodes.forEach((node, i) => {
    node.setAttribute("aria-posinset", String(entries.size - nodes.length + i + 1));
    node.setAttribute("aria-setsize", "-1");
    impressions.add(node, eventOf("impression", entries.get(node)));
  });
  degraded(from.degraded, show, items[0]?.source);
  byId("panel").dataset.model = from.model ?? ""; // for developers' tools; "why this" says it in words
  return nodes.length;
}

/** An empty feed is no list to a screen reader. */
function list(on) {
  host.role = on ? "feed" : null;
  host.ariaLabel = on ? "Pins" : null;
}

function state(name, detail) {
  byId("panel").setAttribute("aria-busy", String(name === "loading"));
  if (name === "loading") return loading(detail);
  unghost();
  if (name === "ready") return void (tail(), further());
  if (name === "waiting") waiting(detail, () => stream.more());
  if (name === "end") ended(entries.size, session, stream.feed);
  // The reader is asked for anew where the address names no possible user.
  if (name === "error" && detail.nobody) return void welcome(byId("tail"), (chosen) => open({ user: chosen, feed: stream.feed }));
  if (name === "error") failed(detail, () => stream.more(), show);
}

const label = (feed) => byId(`tab-${feed}`).textContent.trim().toLowerCase();

function loading({ first }) {
  // While waiting for a feed that failed, its message stays.
  if (byId("tail").childElementCount) return;
  ghosts = Array.from({ length: first ? SKELETONS.first : SKELETONS.next }, (_, i) => skeleton(i));
  waterfall.add(ghosts);
}

function unghost() {
  if (!ghosts.length) return;
  waterfall.drop(ghosts);
  ghosts = [];
  waterfall.flow();
}

const near = () => byId("sentinel").getBoundingClientRect().top < innerHeight + AHEAD_PX;

/** Asks for more where the end is near. An observer alone would stall: of an end that leaves and comes back between two
 *  of its frames, as when one scrolls to the bottom while cards arrive, it says nothing. */
function further() {
  if (stream?.name === "ready" && near()) stream.more();
}

for (const moved of ["scroll", "resize", "scrollend"]) addEventListener(moved, further, { passive: true });

/** A hidden pin: focus goes on to the next card, the cards below close the gap. */
function collapse(node) {
  if (!node) return;
  const order = [...entries.keys()], at = order.indexOf(node);
  if (node.contains(document.activeElement)) focus(order[at + 1] ?? order[at - 1]);
  impressions.drop(node);
  gone.set(node.dataset.pin, { node, entry: entries.get(node), column: waterfall.column(node) });
  entries.delete(node);
  cards.delete(node.dataset.pin);
  node.classList.add("leaving");
  node.inert = true;
  setTimeout(() => {
    if (cards.has(node.dataset.pin)) return; // taken back meanwhile
    waterfall.remove(node);
    further();
  }, 180);
}

/** A hide that was taken back: the card stands where it stood. */
function comeBack(pin) {
  const was = gone.get(pin);
  if (!was || was.entry.session !== session) return;
  gone.delete(pin);
  const { node, entry } = was, before = (card) => Number(card.ariaPosInSet) < Number(node.ariaPosInSet);
  const order = [...entries], at = order.filter(([card]) => before(card)).length;
  const next = order[at]?.[0] ?? null;
  entries = new Map([...order.slice(0, at), [node, entry], ...order.slice(at)]);
  cards.set(pin, node);
  node.classList.remove("leaving");
  node.inert = false;
  if (!waterfall.place.has(node)) waterfall.restore(node, was.column, next);
  impressions.add(node, eventOf("impression", entry));
  focus(node);
}

function focus(node) {
  if (!node) return;
  waterfall.reveal(node);
  node.focus({ preventScroll: true });
  node.scrollIntoView({ block: "nearest", behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
}

const focused = () => document.activeElement?.closest?.(".card:not(.skeleton)") ?? null;

function step(by) {
  const order = [...entries.keys()], node = focused();
  // Nothing chosen yet: begin with the first card that is on the screen.
  if (!node) return focus(order.find((c) => c.isConnected && c.getBoundingClientRect().bottom > 120));
  focus(order[order.indexOf(node) + by]);
}

function beside(entry, by) {
  const order = [...entries.values()], at = order.indexOf(entry);
  return at < 0 ? null : order[at + by] ?? null;
}

const saveButton = (entry) => (look.entry === entry ? look.body : cards.get(entry.item.pin)).querySelector(".save-choose");

keyboard({
  current: focused,
  entryOf: (node) => entries.get(node),
  step,
  go: (direction) => focus(waterfall.beside(focused(), direction)),
  look: (node) => look.open(entries.get(node)),
  save: (entry) => toggleSave(entry, () => openSaveMenu(entry, saveButton(entry))),
  hide: (entry) => { if (look.isOpen) look.close(); hide(entry); },
  why: why.open,
  refresh: show,
  follow: (entry) => {
    const url = safeLink(entry.item.link);
    if (!url) return;
    report("click", entry);
    window.open(url.href, "_blank", "noopener,noreferrer");
  },
}, look);

// The link that skips to the pins moves within the page, which is a popstate too.
addEventListener("popstate", () => {
  const { user, feed, pin } = current();
  if (user !== shown?.user || feed !== shown?.feed) return void show();
  shown = current();
  look.follow(pin); // back from a closer look, or on to one: the feed stays where it is
});
history.scrollRestoration = "manual"; // the feed starts at its top, whatever was scrolled before
show();
