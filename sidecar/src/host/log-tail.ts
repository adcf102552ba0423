/** Keeps the last lines of a host's stderr: enough to see why it died, never enough to fill memory. */
export class LogTail {
  readonly #lines: string[] = [];
  readonly #onLine: (line: string) => void;
  readonly #decoder = new TextDecoder();
  #rest = "";

  constructor(onLine: (line: string) => void) {
    this.#onLine = onLine;
  }

  push(chunk: Uint8Array): void {
    const parts = (this.#rest + this.#decoder.decode(chunk, { stream: true })).split(/\r?\n/);
    this.#rest = (parts.pop() ?? "").slice(0, maxLineLength);
    for (const line of parts) this.#add(line);
  }

  /** The stream ended: an unfinished last line counts. */
  end(): void {
    if (this.#rest !== "") this.#add(this.#rest);
    this.#rest = "";
  }

  get lines(): readonly string[] {
    return this.#lines.slice();
  }

  #add(line: string): void {
    const kept = line.slice(0, maxLineLength);
    this.#lines.push(kept);
    if (this.#lines.length > maxLines) this.#lines.shift();
    this.#onLine(kept);
  }
}

/** A Python traceback of a failed kernel build is about 100 lines. */
const maxLines = 200;
const maxLineLength = 2000;
