// Whole frames out of a byte stream.

import { assemble, readPrefix } from "./decode.ts";
import type { Prefix } from "./decode.ts";
import { defaultFrameLimits, FrameError, prefixBytes } from "./layout.ts";
import type { Frame, FrameLimits } from "./layout.ts";

/** Frames from a byte stream (a pipe). Push chunks of any size; whole frames come out in order. After a FrameError the place in the stream is lost, so every further push throws it again. */
export class FrameReader {
  readonly #limits: FrameLimits;
  #chunks: Uint8Array[] = [];
  #buffered = 0;
  #prefix: Prefix | null = null;
  #lost: FrameError | null = null;

  constructor(limits: FrameLimits = defaultFrameLimits) {
    this.#limits = limits;
  }

  /** Bytes of an unfinished frame; more than 0 at the end of the stream means that it was cut. */
  get pendingBytes(): number {
    return this.#buffered + (this.#prefix === null ? 0 : prefixBytes);
  }

  push(chunk: Uint8Array): Frame[] {
    if (this.#lost !== null) throw this.#lost;
    try {
      return this.#split(chunk);
    } catch (error) {
      if (error instanceof FrameError) this.#lost = error;
      throw error;
    }
  }

  #split(chunk: Uint8Array): Frame[] {
    if (chunk.byteLength > 0) {
      this.#chunks.push(chunk);
      this.#buffered += chunk.byteLength;
    }
    const frames: Frame[] = [];
    for (;;) {
      if (this.#prefix === null) {
        if (this.#buffered < prefixBytes) return frames;
        this.#prefix = readPrefix(this.#take(prefixBytes), this.#limits);
      }
      const prefix = this.#prefix;
      if (this.#buffered < prefix.totalBytes - prefixBytes) return frames;
      const header = this.#take(prefix.payloadStart - prefixBytes);
      const payload = this.#take(prefix.payloadBytes);
      this.#prefix = null;
      frames.push(assemble(prefix, header, payload));
    }
  }

  /** Removes `count` buffered bytes as one buffer of its own, so that tensors in it are aligned and chunks can be freed. */
  #take(count: number): Uint8Array {
    const taken = new Uint8Array(count);
    let filled = 0;
    let used = 0;
    while (filled < count) {
      const chunk = this.#chunks[used];
      if (chunk === undefined) throw new TypeError("took more bytes than are buffered");
      const part = chunk.subarray(0, count - filled);
      taken.set(part, filled);
      filled += part.byteLength;
      if (part.byteLength === chunk.byteLength) used += 1;
      else this.#chunks[used] = chunk.subarray(part.byteLength);
    }
    this.#chunks.splice(0, used);
    this.#buffered -= count;
    return taken;
  }
}
