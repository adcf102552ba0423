import { fstatSync } from "node:fs";
import { stat, type FileHandle } from "node:fs/promises";
import { basename } from "node:path";

import type { Header, TensorEntry, TensorFile } from "../api.ts";
import { SafetensorsError } from "../errors.ts";
import { sameStamp, toStamp } from "./open-regular.ts";
import { openWithHeader, type HeaderParser } from "./read-header.ts";
import { readFully } from "./read-fully.ts";

export async function openTensorFile(path: string, parse: HeaderParser): Promise<TensorFile> {
  const { handle, header } = await openWithHeader(path, parse);
  return new OpenTensorFile(path, header, handle);
}

/** Tensors up to this size are served from a window read around them: a LoRA has hundreds of small ones, and a call to the disk costs more than they do. */
const smallBytes = 256 * 1024;
const windowBytes = 1024 * 1024;

/** Bytes [begin, end) of the data section, read or being read: readers that come together share one read. */
interface Window {
  readonly begin: number;
  readonly end: number;
  readonly bytes: Promise<Uint8Array>;
}

/**
 * Positioned reads from one descriptor. Replacing the path (rename) leaves what is open intact and readable; writing into the file, or cutting it,
 * is an error of the read that meets it. `checkUnchanged` also looks at the path.
 */
class OpenTensorFile implements TensorFile {
  readonly path: string;
  readonly header: Header;
  readonly #handle: FileHandle;
  readonly #file: string;
  #window: Window = { begin: 0, end: 0, bytes: Promise.resolve(new Uint8Array()) };

  constructor(path: string, header: Header, handle: FileHandle) {
    this.path = path;
    this.header = header;
    this.#handle = handle;
    this.#file = basename(path);
  }

  async read(name: string): Promise<Uint8Array> {
    const entry = this.#find(name);
    const target = new Uint8Array(entry.end - entry.begin);
    await this.#readEntry(entry, target);
    return target;
  }

  async readInto(name: string, target: Uint8Array, offset = 0): Promise<void> {
    const entry = this.#find(name);
    const bytes = entry.end - entry.begin;
    if (!Number.isSafeInteger(offset) || offset < 0 || offset + bytes > target.byteLength) {
      throw new RangeError(`readInto: expected room for ${bytes} bytes at offset ${offset}, the target has ${target.byteLength}`);
    }
    await this.#readEntry(entry, target.subarray(offset, offset + bytes));
  }

  async readPart(name: string, target: Uint8Array, begin: number): Promise<void> {
    const entry = this.#find(name);
    if (!Number.isSafeInteger(begin) || begin < 0 || entry.begin + begin + target.byteLength > entry.end) {
      throw new RangeError(`readPart: expected ${target.byteLength} bytes at ${begin}, the tensor has ${entry.end - entry.begin}`);
    }
    await this.#readEntry({ ...entry, begin: entry.begin + begin, end: entry.begin + begin + target.byteLength }, target);
  }

  #find(name: string): TensorEntry {
    const entry = this.header.entries.get(name);
    if (entry === undefined) throw new SafetensorsError("TENSOR_NOT_FOUND", this.#file, "the file has no such tensor", { tensor: name });
    return entry;
  }

  async #readEntry(entry: TensorEntry, target: Uint8Array): Promise<void> {
    if (target.byteLength <= smallBytes) return target.set((await this.#windowAround(entry)).subarray(0, target.byteLength));
    await readFully(this.#handle, target, this.header.dataOffset + entry.begin, this.#file, entry.name);
    this.#checkStamp(entry.name);
  }

  /** The stamp is compared after the bytes are in: a write that came before or during the copy has moved it. Synchronous, because asking an open descriptor takes some microseconds and waiting for a thread takes fifty. */
  #checkStamp(tensor: string): void {
    const now = toStamp(fstatSync(this.#handle.fd, { bigint: true }));
    if (now.sizeBytes < this.header.stamp.sizeBytes)
      throw new SafetensorsError("TRUNCATED", this.#file, "the file was cut short while being read", { tensor });
    if (!sameStamp(this.header.stamp, now)) this.#changed("the file was written to while being read");
  }

  /** Bytes from the entry's start on, at least the whole entry. */
  async #windowAround(entry: TensorEntry): Promise<Uint8Array> {
    let window = this.#window;
    if (entry.begin < window.begin || entry.end > window.end) {
      window = this.#readWindow(entry);
      this.#window = window;
    }
    return (await window.bytes).subarray(entry.begin - window.begin);
  }

  #readWindow({ begin, end, name }: TensorEntry): Window {
    const { dataOffset, stamp } = this.header;
    const target = new Uint8Array(Math.max(end - begin, Math.min(windowBytes, stamp.sizeBytes - dataOffset - begin)));
    const read = async (): Promise<Uint8Array> => {
      await readFully(this.#handle, target, dataOffset + begin, this.#file, name);
      // What is in the window was in the file when the stamp still held; later readers of the window need not ask again.
      this.#checkStamp(name);
      return target;
    };
    const bytes = read();
    bytes.catch(() => {
      // A failed read serves nobody else.
      if (this.#window.bytes === bytes) this.#window = { begin: 0, end: 0, bytes: Promise.resolve(new Uint8Array()) };
    });
    return { begin, end: begin + target.byteLength, bytes };
  }

  async checkUnchanged(): Promise<void> {
    if (!sameStamp(this.header.stamp, toStamp(await this.#handle.stat({ bigint: true }))))
      this.#changed("the file was written to since it was opened");
    const atPath = await stat(this.path, { bigint: true }).catch((cause: unknown) =>
      this.#changed("the file was removed since it was opened", cause),
    );
    if (!sameStamp(this.header.stamp, toStamp(atPath))) this.#changed("the file was replaced since it was opened");
  }

  #changed(problem: string, cause?: unknown): never {
    throw new SafetensorsError("FILE_CHANGED", this.#file, `${problem}; open it again when it has settled`, { cause });
  }

  async close(): Promise<void> {
    await this.#handle.close();
  }
}
