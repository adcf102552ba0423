import type { TensorEntry } from "../api.ts";
import { containerDtypes, type RawHeader } from "./binding.ts";

/** Going through the lengths of 2,000 names takes microseconds; hashing all of them takes as long as this many times that. */
const lookUpsByScan = 64;

/**
 * The tensors of a header as the addon gives them, seen as a map in header order. Entries are made when they are asked for: whoever reads 2,000 files to
 * list them looks at a few entries of each. A name taken from here shares memory with all names of its header; copy it to keep it for long.
 */
export class TensorTable implements ReadonlyMap<string, TensorEntry> {
  readonly #raw: RawHeader;
  #lookUps = 0;
  /** Position by name; made when there are many look-ups. */
  #positions: Map<string, number> | null = null;
  constructor(raw: RawHeader) {
    this.#raw = raw;
  }

  get size(): number {
    return this.#raw.dtypes.length;
  }

  #name(position: number): string {
    return this.#raw.names.slice(position === 0 ? 0 : this.#raw.nameEnds[position - 1], this.#raw.nameEnds[position]);
  }

  #entry(name: string, position: number): TensorEntry {
    const { numbers, numberStarts, dtypes } = this.#raw;
    const start = numberStarts[position] ?? 0;
    const shape = Array.from(numbers.subarray(start + 3, start + 3 + (numbers[start + 2] ?? 0)));
    return { name, dtype: containerDtypes[dtypes[position] ?? 0] ?? "U8", shape, begin: numbers[start] ?? 0, end: numbers[start + 1] ?? 0 };
  }

  #position(name: string): number | undefined {
    if (this.#positions === null && this.#lookUps++ < lookUpsByScan) return this.#scanFor(name);
    if (this.#positions === null) {
      this.#positions = new Map();
      for (let position = 0; position < this.size; position++) this.#positions.set(this.#name(position), position);
    }
    return this.#positions.get(name);
  }

  #scanFor(name: string): number | undefined {
    const { names, nameEnds } = this.#raw;
    for (let position = 0, start = 0; position < nameEnds.length; position++) {
      const end = nameEnds[position] ?? 0;
      if (end - start === name.length && names.startsWith(name, start)) return position;
      start = end;
    }
    return undefined;
  }

  get(name: string): TensorEntry | undefined {
    const position = this.#position(name);
    return position === undefined ? undefined : this.#entry(name, position);
  }

  has(name: string): boolean {
    return this.#position(name) !== undefined;
  }

  *keys(): Generator<string, undefined, unknown> {
    for (let position = 0; position < this.size; position++) yield this.#name(position);
  }

  *values(): Generator<TensorEntry, undefined, unknown> {
    for (let position = 0; position < this.size; position++) yield this.#entry(this.#name(position), position);
  }

  *entries(): Generator<[string, TensorEntry], undefined, unknown> {
    for (let position = 0; position < this.size; position++) {
      const name = this.#name(position);
      yield [name, this.#entry(name, position)];
    }
  }

  [Symbol.iterator](): Generator<[string, TensorEntry], undefined, unknown> {
    return this.entries();
  }

  forEach(visit: (entry: TensorEntry, name: string, table: ReadonlyMap<string, TensorEntry>) => void): void {
    for (const [name, entry] of this) visit(entry, name, this);
  }
}
