// The waterfall. Cards stay in feed order in the document (so tabbing and reading follow the
// ranking) and are placed by transforms. A card keeps its column for life: when one is
// hidden, only the cards below it move.
//
// A long feed does not fill the document: of many cards only those near the screen are in it,
// and the others keep their places. So a hundred pages weigh as much as five.

const GAP = { wide: 20, narrow: 10 };
const COLUMN = { wide: 232, narrow: 158 };
const WHOLE = 240; // up to so many cards all are in the document
const NEAR = 3; // beyond it, those within so many screens above and below this one

export class Masonry {
  constructor(host) {
    this.host = host;
    this.columns = [];
    this.cards = []; // in feed order, in the document or not
    this.place = new Map(); // card -> {column, y, height}
    // Fonts, titles and menus change no heights later, so only the width is watched.
    new ResizeObserver(() => this.resized()).observe(host);
    addEventListener("scroll", () => this.soon(), { passive: true });
  }

  clear() {
    this.host.replaceChildren();
    this.cards = [];
    this.place.clear();
    this.measure();
    this.stretch();
  }

  add(cards) {
    this.host.classList.remove("closing");
    if (!this.columns.length) this.measure();
    for (const card of cards) card.style.width = `${this.width}px`;
    this.cards.push(...cards);
    this.host.append(...cards);
    const heights = cards.map((card) => card.offsetHeight); // all reads, then all writes
    cards.forEach((card, i) => this.put(card, this.shortest(), heights[i]));
    this.stretch();
    this.show();
  }

  remove(card) {
    if (!this.place.has(card)) return;
    this.drop([card]);
    this.close();
  }

  /** Back where it was, before the card that came after it. */
  restore(card, column, next) {
    const at = next ? this.cards.indexOf(next) : -1;
    this.cards.splice(at < 0 ? this.cards.length : at, 0, card);
    this.place.set(card, { column: Math.min(column, this.columns.length - 1), y: 0, height: 0 });
    this.reveal(card); // to be measured
    this.close();
  }

  /** Takes cards out without moving the others: `flow` does. */
  drop(cards) {
    for (const card of cards) {
      this.place.delete(card);
      card.remove();
    }
    this.cards = this.cards.filter((card) => this.place.has(card));
  }

  close() {
    this.host.classList.add("closing");
    clearTimeout(this.closing);
    this.closing = setTimeout(() => this.host.classList.remove("closing"), 260);
    this.flow();
  }

  column(card) { return this.place.get(card)?.column ?? 0; }

  /** The card beside this one: "up", "down", "left" or "right"; null at an edge. */
  beside(card, direction) {
    const at = this.place.get(card);
    if (!at) return null;
    if (direction === "up" || direction === "down") {
      const stack = this.inColumn(at.column), i = stack.indexOf(card);
      return stack[direction === "up" ? i - 1 : i + 1] ?? null;
    }
    const off = (other) => Math.abs(this.place.get(other).y - at.y);
    return this.inColumn(at.column + (direction === "left" ? -1 : 1))
      .reduce((best, other) => (best && off(best) <= off(other) ? best : other), null);
  }

  inColumn(column) {
    return this.cards.filter((card) => this.place.get(card).column === column);
  }

  measure() {
    const full = this.host.clientWidth, narrow = full < 560;
    this.gap = narrow ? GAP.narrow : GAP.wide;
    const n = Math.max(1, Math.floor((full + this.gap) / ((narrow ? COLUMN.narrow : COLUMN.wide) + this.gap)));
    this.width = Math.floor((full - this.gap * (n - 1)) / n);
    this.columns = new Array(n).fill(0);
    this.full = full;
  }

  resized() {
    if (this.host.clientWidth === this.full) return;
    const before = this.columns.length;
    this.measure();
    for (const card of this.cards) card.style.width = `${this.width}px`;
    this.host.replaceChildren(...this.cards); // their heights change with their width
    this.flow(this.columns.length === before);
  }

  /** Places all cards anew; those in the document are measured, the others keep the height they had. */
  flow(keep = true) {
    this.columns.fill(0);
    const heights = this.cards.map((card) => (card.isConnected ? card.offsetHeight : this.place.get(card).height));
    this.cards.forEach((card, i) => this.put(card, keep ? this.column(card) : this.shortest(), heights[i]));
    this.stretch();
    this.show();
  }

  put(card, column, height) {
    const y = Math.round(this.columns[column]);
    this.place.set(card, { column, y, height });
    card.style.transform = `translate(${column * (this.width + this.gap)}px, ${y}px)`;
    this.columns[column] = this.columns[column] + height + this.gap;
  }

  shortest() {
    return this.columns.indexOf(Math.min(...this.columns));
  }

  stretch() {
    this.host.style.height = `${Math.max(0, ...this.columns)}px`;
  }

  soon() {
    this.frame ??= requestAnimationFrame(() => { this.frame = null; this.show(); });
  }

  /** Puts what is near the screen into the document, in feed order, and takes the rest out. */
  show() {
    const all = this.cards.length <= WHOLE, top = -this.host.getBoundingClientRect().top;
    const from = top - NEAR * innerHeight, to = top + (NEAR + 1) * innerHeight;
    let after = null; // the last card that stays
    for (const card of this.cards) {
      const { y, height } = this.place.get(card);
      const near = all || (y + height > from && y < to) || card.contains(document.activeElement);
      if (near && !card.isConnected) {
        if (after) after.after(card);
        else this.host.prepend(card);
      } else if (!near && card.isConnected) card.remove();
      if (near) after = card;
    }
  }

  /** In the document, wherever it is: only then can it have the focus. */
  reveal(card) {
    if (card.isConnected || !this.place.has(card)) return;
    const next = this.cards.slice(this.cards.indexOf(card)).find((other) => other.isConnected);
    this.host.insertBefore(card, next ?? null);
  }
}
