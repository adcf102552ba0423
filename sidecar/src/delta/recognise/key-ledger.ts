// What happened to every key of an adapter file.

import type { KeyReport } from "../../terms/index.ts";

/** Each key ends in exactly one list; the first failure of a key stands, and use outweighs failure (an alpha shared by two kinds). */
export class KeyLedger {
  readonly #used = new Set<string>();
  readonly #failed = new Map<string, string>();
  readonly #ignored = new Map<string, string>();

  use(keys: Iterable<string>): void {
    for (const key of keys) this.#used.add(key);
  }

  fail(keys: Iterable<string>, reason: string): void {
    for (const key of keys) if (!this.#failed.has(key)) this.#failed.set(key, reason);
  }

  ignore(key: string, reason: string): void {
    this.#ignored.set(key, reason);
  }

  /** Whether some name of the key map consumed the key, with or without success. */
  consumed(key: string): boolean {
    return this.#used.has(key) || this.#failed.has(key);
  }

  report(): KeyReport {
    const listed = (entries: Iterable<[string, string]>): { key: string; reason: string }[] =>
      [...entries].map(([key, reason]) => ({ key, reason }));
    return {
      used: [...this.#used],
      ignored: listed(this.#ignored),
      failed: listed([...this.#failed].filter(([key]) => !this.#used.has(key))),
    };
  }
}
