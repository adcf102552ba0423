// Which inputs one host process keeps on its device: conditioning goes to it once a run, not at every step.

import type { StepTensor } from "./types.ts";

/** More than a host keeps: it says itself when it has let one go. */
const maxKeys = 1024;

export interface Division {
  readonly tensors: readonly StepTensor[];
  /** Input name to key: brought now and kept; kept already and not brought. Both absent where there is nothing to say. */
  readonly words: { readonly keep?: Readonly<Record<string, string>>; readonly use?: Readonly<Record<string, string>> };
  /** Keys that the host has once it has answered. */
  readonly kept: readonly string[];
  readonly used: readonly string[];
}

export class KeptInputs {
  readonly #keys = new Set<string>();

  divide(tensors: readonly StepTensor[]): Division {
    const keep: Record<string, string> = {};
    const use: Record<string, string> = {};
    const sent = tensors.filter((tensor) => {
      if (!("key" in tensor) || tensor.key === undefined) return true;
      const known = this.#keys.has(tensor.key);
      (known ? use : keep)[tensor.name] = tensor.key;
      return !known;
    });
    const [kept, used] = [Object.values(keep), Object.values(use)];
    const words = { ...(kept.length > 0 ? { keep } : {}), ...(used.length > 0 ? { use } : {}) };
    return { tensors: sent, words, kept, used };
  }

  /** The host answered: it has them. */
  add(keys: readonly string[]): void {
    for (const key of keys) this.#keys.add(key);
    for (const key of this.#keys) {
      if (this.#keys.size <= maxKeys) break;
      this.#keys.delete(key);
    }
  }

  /** It says that it let one of them go: all are sent again. */
  forget(keys: readonly string[]): void {
    for (const key of keys) this.#keys.delete(key);
  }
}
