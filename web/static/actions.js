// What a person can do to a pin. The page changes at once; the event follows; if it can't
// be written the page says so and goes back.

import { postEvents, takeDown } from "./api.js";
import { toast } from "./toast.js";

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

export async function save(entry, board = entry.session.defaultBoard(entry.item)) {
  const { session, item } = entry;
  if (!board) return void toast("There is no board to save to yet.", { kind: "error" });
  const before = session.saved.get(item.pin);
  session.markSaved(item.pin, board);
  session.useBoard(board);
  const done = await write([eventOf("save", entry, { board: board.id })], "The pin was not saved",
    () => session.markSaved(item.pin, before), () => save(entry, board));
  if (done) toast(`Saved to ${board.title}`, { action: { label: "Undo", run: () => unsave(entry) } });
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

export function toggleSave(entry) {
  return entry.session.saved.has(entry.item.pin) ? unsave(entry) : save(entry);
}

export async function hide(entry) {
  const { session, item } = entry;
  if (session.hidden.has(item.pin)) return;
  session.markHidden(item.pin);
  toast("Hidden. You won't see this pin again.");
  // It stays away on this page even if the event fails: bringing it back would be ruder.
  const event = eventOf("hide", entry);
  const send = () => write([event], "Hidden here, but not for good", () => {}, send);
  await send();
}

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
    toast(`The pin was not taken down: ${error.message}`, { kind: "error" });
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
