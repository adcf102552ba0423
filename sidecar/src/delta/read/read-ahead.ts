// Loads what comes next while the current piece is being written. Bounded in bytes, so memory does not depend on the file.

export interface Piece<T> {
  readonly size: number;
  readonly load: () => Promise<T>;
}

/** Enough to keep disk, checks and writing busy at once; small beside any adapter's largest tensor. */
const defaultWindow = { bytes: 16 << 20, pieces: 8 };

/**
 * Gives pieces by index; asking for one starts the following ones, as many as fit the window. Pieces may be asked for in any order: those out of
 * order are loaded when asked for. A failed load is thrown when its piece is asked for.
 */
export class ReadAhead<T> {
  readonly #pieces: readonly Piece<T>[];
  readonly #window: typeof defaultWindow;
  readonly #started = new Map<number, Promise<T>>();
  #next = 0;
  #bytes = 0;

  constructor(pieces: readonly Piece<T>[], window = defaultWindow) {
    this.#pieces = pieces;
    this.#window = window;
  }

  async take(index: number): Promise<T> {
    const piece = this.#pieces[index];
    if (!piece) throw new RangeError(`read-ahead: expected an index below ${this.#pieces.length}, got ${index}`);
    const started = this.#started.get(index);
    if (started) {
      this.#started.delete(index);
      this.#bytes -= piece.size;
    }
    const taken = started ?? piece.load();
    if (index >= this.#next) this.#next = index + 1;
    this.#startFollowing();
    return taken;
  }

  #startFollowing(): void {
    for (let piece = this.#pieces[this.#next]; piece; piece = this.#pieces[this.#next]) {
      if (this.#started.size >= this.#window.pieces || this.#bytes + piece.size > this.#window.bytes) return;
      const loading = piece.load();
      // A failure belongs to the taker of the piece, who may never come.
      loading.catch(() => {});
      this.#started.set(this.#next, loading);
      this.#bytes += piece.size;
      this.#next += 1;
    }
  }
}
