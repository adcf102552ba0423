import type { FileHandle } from "node:fs/promises";

/** A LoRA has hundreds of small tensors, and a call to the disk costs more than copying them. */
const bufferBytes = 1 << 20;

/** libuv passes a write's length on as 32 bits. */
const maxWriteBytes = 1 << 30;

/** Writes a file front to back: small pieces are collected, large ones go straight to the disk. What was given is used until `write` resolves, not longer. */
export class BufferedWriter {
  readonly #handle: FileHandle;
  readonly #buffer: Buffer;
  #held = 0;
  #position: number;

  /** Writes from `position` on, collecting up to `collected` bytes. */
  constructor(handle: FileHandle, position = 0, collected = bufferBytes) {
    this.#handle = handle;
    this.#position = position;
    this.#buffer = Buffer.allocUnsafe(collected);
  }

  async write(data: Uint8Array): Promise<void> {
    if (this.#held + data.byteLength > this.#buffer.byteLength) await this.flush();
    if (data.byteLength > this.#buffer.byteLength) return this.#writeAll(data);
    this.#buffer.set(data, this.#held);
    this.#held += data.byteLength;
  }

  async flush(): Promise<void> {
    const held = this.#held;
    this.#held = 0;
    await this.#writeAll(this.#buffer.subarray(0, held));
  }

  async #writeAll(data: Uint8Array): Promise<void> {
    let done = 0;
    while (done < data.byteLength) {
      const { bytesWritten } = await this.#handle.write(data, done, Math.min(maxWriteBytes, data.byteLength - done), this.#position);
      done += bytesWritten;
      this.#position += bytesWritten;
    }
  }
}
