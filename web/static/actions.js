// The actions of a person on a pin. The page changes immediately; the event follows; if it can't
// be written the page says so and goes back.

import { postEvents, randomId, takeDown } from "./api.js";
import { toast } from "./toast.js";

const TAKE_BACK_MS = 8000; // so long a hide waits to be taken back: there is no event that undoes one

/** The event that `action` on this feed item is. */
export function eventOf(action, { session, item, surface }, extra = {}) {
  const event = { user: session.user, action, pin: item.pin, surface, ...extra };
  if (!event.board && item.board) event.board = item.board.id;
  return event;
}

/** Nothing to show and nothing to undo: closeup and click. */
export function report(action, entry) {
  postEvents([eventOf(action, entry)], { keepalive: true })
    .catch((error) => console.warn(`${action} not recorded:`, error.message));
}

export async function save(entry, board = entry.session.defaultBoard()) {
  const { session, item } = entry;
  const before = session.saved.get(item.pin);
  session.markSaved(item.pin, board);
  session.useBoard(board);
  const done = await write([eventOf("save", entry, { board: board.id })], "The pin was not saved",
    () => session.markSaved(item.pin, before), () => save(entry, board));
  if (done) toast(`Saved to ${board.title}`, { action: { label: "Undo", run: () => unsave(entry) } });
}

/** Makes a board with this title and saves to it: both are written together, or neither. */
export async function saveToNew(entry, title) {
  const { session, item, surface } = entry, board = { id: randomId(), title };
  const create = { user: session.user, action: "create_board", board: board.id, title, surface };
  session.markSaved(item.pin, board);
  const done = await write([create, eventOf("save", entry, { board: board.id })], "The board was not made",
    () => session.markSaved(item.pin, null), () => saveToNew(entry, title));
  if (!done) return;
  session.addBoard(board);
  session.useBoard(board);
  toast(`Saved to ${title}`, { action: { label: "Undo", run: () => unsave(entry) } });
}

export async function unsave(entry) {
  const { session, item } = entry;
  const board = session.saved.get(item.pin);
  if (!board) return;
  session.markSaved(item.pin, null);
  const done = await write([eventOf("unsave", entry, { board: board.id })], "The pin is still saved",
    () => session.markSaved(item.pin, board), () => unsave(entry));
  if (done) toast(`Removed from ${board.title}`);
}

/** Saves, or takes a save back. Without a board of one's own `choose` is asked for one. */
export async function toggleSave(entry, choose) {
  const { session, item } = entry;
  if (session.saved.has(item.pin)) return unsave(entry);
  await session.loading; // or boards that are on their way would be taken for none
  return session.defaultBoard() ? save(entry) : choose();
}

export async function hide(entry) {
  const { session, item } = entry;
  if (session.hidden.has(item.pin)) return;
  session.markHidden(item.pin);
  const event = eventOf("hide", entry);
  // It stays away on this page even if the event fails: bringing it back would be ruder.
  const send = () => {
    waiting.delete(send);
    clearTimeout(timer);
    close();
    return write([event], "Hidden here, but not for good", () => {}, send);
  };
  const undo = () => {
    waiting.delete(send);
    clearTimeout(timer);
    session.markShown(item.pin);
  };
  const close = toast("Hidden. You won't see this pin again.", { action: { label: "Undo", run: undo }, forMs: TAKE_BACK_MS });
  const timer = setTimeout(send, TAKE_BACK_MS);
  waiting.add(send);
}

const waiting = new Set(); // hides that can still be taken back
const settle = () => [...waiting].forEach((send) => send());
addEventListener("pagehide", settle);
document.addEventListener("visibilitychange", () => document.hidden && settle());

const ID_FIELD = { user: "target", board: "board", interest: "target" };

/** kind is "user", "board" or "interest". */
export async function toggleFollow(entry, kind, { id, name }) {
  const { session } = entry;
  const on = !session.follows[kind].has(id);
  const event = { user: session.user, action: `${on ? "" : "un"}follow_${kind}`, [ID_FIELD[kind]]: id, surface: entry.surface };
  session.markFollows(kind, id, name, on);
  const done = await write([event], on ? `${name} was not followed` : `${name} is still followed`,
    () => session.markFollows(kind, id, name, !on), () => toggleFollow(entry, kind, { id, name }));
  if (done) toast(on ? `Following ${name}` : `No longer following ${name}`);
}

/** done() is called before the card goes, so that the focus is back on it and can move on with it. */
export async function takeDownPin(entry, done) {
  try {
    await takeDown(entry.item.pin);
  } catch (error) {
    toast(`The pin was not taken down: ${error.plain ?? error.message}`, { kind: "error" });
    return;
  }
  done();
  entry.session.markHidden(entry.item.pin);
  toast("Taken down, for everybody.");
}

const AGAIN_MS = 1200; // a process that was restarted is back by then

/** Writes, once more if a part of the mesh was just away: the events keep their ids, so they count once. */
async function write(events, failure, undo, again) {
  const send = () => postEvents(events, { keepalive: true });
  try {
    await send().catch(async (error) => {
      if (!error.passing) throw error;
      await new Promise((done) => setTimeout(done, AGAIN_MS));
      await send();
    });
    return true;
  } catch (error) {
    undo();
    console.warn(`${failure}:`, error.message);
    toast(`${failure}: ${error.plain ?? error.message}`, { kind: "error", action: again ? { label: "Try again", run: again } : null });
    return false;
  }
}
