// The reader, with own boards, follows, saved and hidden pins: as the server answered,
// plus the actions on this page since.

import { getUser } from "./api.js";

const lastBoardKey = (user) => `feedmesh.board.${user}`;

/** Fires "saved" {pin}, "hidden" {pin}, "unhidden" {pin} and "follows" after each change. */
export class Session extends EventTarget {
  constructor(user) {
    super();
    this.user = user;
    this.name = `user ${user}`;
    this.followers = 0;
    this.boards = [];
    this.follows = { user: new Map(), board: new Map(), interest: new Map() };
    this.saved = new Map(); // pin -> {id, title} of the board
    this.hidden = new Set();
    this.loaded = false;
    this.loading = null;
  }

  /** Asks the server once; `loading` settles when that is over, well or not. */
  load() {
    const asked = this.ask();
    this.loading = asked.catch(() => {});
    return asked;
  }

  async ask() {
    const answer = await getUser(this.user);
    this.name = answer.name || this.name;
    this.followers = answer.followers ?? 0;
    this.boards = answer.boards ?? [];
    const { users = [], boards = [], interests = [] } = answer.follows ?? {};
    this.follows = {
      user: new Map(users.map((u) => [u.id, u.name])),
      board: new Map(boards.map((b) => [b.id, b.title])),
      interest: new Map(interests.map((i) => [i.id, i.name])),
    };
    this.loaded = true;
    this.emit("follows");
  }

  /** The person's board last saved to, else their first; null when they have none. */
  defaultBoard() {
    return this.boards.find((b) => b.id === this.lastBoard()) ?? this.boards[0] ?? null;
  }

  lastBoard() {
    try { return localStorage.getItem(lastBoardKey(this.user)); } catch { return null; }
  }

  useBoard(board) {
    try { localStorage.setItem(lastBoardKey(this.user), board.id); } catch { /* asked again next time */ }
  }

  markSaved(pin, board) {
    if (board) this.saved.set(pin, board);
    else this.saved.delete(pin);
    this.emit("saved", { pin });
  }

  markHidden(pin) {
    this.hidden.add(pin);
    this.emit("hidden", { pin });
  }

  markShown(pin) {
    this.hidden.delete(pin);
    this.emit("unhidden", { pin });
  }

  addBoard(board) {
    this.boards = [board, ...this.boards];
    this.emit("follows");
  }

  markFollows(kind, id, name, on) {
    if (on) this.follows[kind].set(id, name);
    else this.follows[kind].delete(id);
    this.emit("follows");
  }

  emit(type, detail = {}) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
