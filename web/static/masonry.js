// The waterfall. Cards stay in feed order in the document (so tabbing and reading follow the
// ranking) and are placed by transforms. A card keeps its column for life: when one is
// hidden, only the cards below it move.

const GAP = { wide: 20, narrow: 10 };
const COLUMN = { wide: 232, narrow: 158 };

export class Masonry {
  constructor(host) {
    this.host = host;
    this.columns = [];
    this.place = new Map(); // card -> column index
    // Fonts, titles and menus change no heights later, so only the width is watched.
    new ResizeObserver(() => this.resized()).observe(host);
  }

  clear() {
    this.host.replaceChildren();
    this.place.clear();
    this.measure();
    this.stretch();
  }

  add(cards) {
    this.host.classList.remove("closing");
    if (!this.columns.length) this.measure();
    for (const card of cards) card.style.width = `${this.width}px`;
    this.host.append(...cards);
    const heights = cards.map((card) => card.offsetHeight); // all reads, then all writes
    cards.forEach((card, i) => {
      const column = this.shortest();
      this.place.set(card, column);
      this.put(card, column, heights[i]);
    });
    this.stretch();
  }

  remove(card) {
    if (!this.place.has(card)) return;
    this.place.delete(card);
    card.remove();
    this.host.classList.add("closing");
    clearTimeout(this.closing);
    this.closing = setTimeout(() => this.host.classList.remove("closing"), 260);
    this.flow();
  }

  /** The card beside this one: "up", "down", "left" or "right"; null at an edge. */
  beside(card, direction) {
    const column = this.place.get(card);
    if (column === undefined) return null;
    if (direction === "up" || direction === "down") {
      const stack = this.inColumn(column), at = stack.indexOf(card);
      return stack[direction === "up" ? at - 1 : at + 1] ?? null;
    }
    const stack = this.inColumn(column + (direction === "left" ? -1 : 1));
    const y = Number(card.dataset.y);
    return stack.reduce((best, other) =>
      best && Math.abs(Number(best.dataset.y) - y) <= Math.abs(Number(other.dataset.y) - y) ? best : other, null);
  }

  inColumn(column) {
    return [...this.host.children].filter((card) => this.place.get(card) === column);
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
    for (const card of this.host.children) card.style.width = `${this.width}px`;
    if (this.columns.length !== before) this.place.clear();
    this.flow();
  }

  flow() {
    this.columns.fill(0);
    const cards = [...this.host.children];
    const heights = cards.map((card) => card.offsetHeight);
    cards.forEach((card, i) => {
      const column = this.place.get(card) ?? this.shortest();
      this.place.set(card, column);
      this.put(card, column, heights[i]);
    });
    this.stretch();
  }

  put(card, column, height) {
    const y = this.columns[column];
    card.dataset.y = String(Math.round(y));
    card.style.transform = `translate(${column * (this.width + this.gap)}px, ${Math.round(y)}px)`;
    this.columns[column] = y + height + this.gap;
  }

  shortest() {
    return this.columns.indexOf(Math.min(...this.columns));
  }

  stretch() {
    this.host.style.height = `${Math.max(0, ...this.columns)}px`;
  }
}
