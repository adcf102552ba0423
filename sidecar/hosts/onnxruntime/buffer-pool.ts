/** Keeps freed buffers for the next refit: fresh pages cost more than the merge that fills them. Content of a taken buffer is arbitrary; each owns its whole
 * memory, so that it can move to the step thread. */
export class BufferPool {
  readonly #free = new Map<number, Uint8Array<ArrayBuffer>[]>();
  readonly #capBytes: number;
  #freeBytes = 0;

  /** At most `capBytes` are kept; what is given back beyond that goes to the collector. */
  constructor(capBytes: number) {
    this.#capBytes = capBytes;
  }

  get freeBytes(): number {
    return this.#freeBytes;
  }

  take(bytes: number): Uint8Array<ArrayBuffer> {
    const buffer = this.#free.get(bytes)?.pop();
    if (buffer === undefined) return new Uint8Array(new ArrayBuffer(bytes));
    this.#freeBytes -= bytes;
    return buffer;
  }

  give(buffer: Uint8Array<ArrayBuffer>): void {
    if (this.#freeBytes + buffer.byteLength > this.#capBytes) return;
    const list = this.#free.get(buffer.byteLength);
    if (list === undefined) this.#free.set(buffer.byteLength, [buffer]);
    else list.push(buffer);
    this.#freeBytes += buffer.byteLength;
  }

  clear(): void {
    this.#free.clear();
    this.#freeBytes = 0;
  }
}
