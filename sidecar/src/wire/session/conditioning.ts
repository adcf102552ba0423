// Conditioning kept between the steps of a run, by session and key. Bounded per session and in all; the least recently used of a session go first,
// and when all sessions together hold too much, those of the session that holds most.

import type { FrameTensor } from "@refit-sidecar/protocol";
import { Failure } from "../../failure/index.ts";

/** `key` names this content for ever, also when the client puts another one under its own key: an engine host may keep it by that name. */
export type Kept = FrameTensor & { readonly key: string };

export interface ConditioningLimits {
  readonly sessionBytes: number;
  readonly totalBytes: number;
  readonly keys: number;
}

export interface ConditioningStore {
  /** Takes a copy: the tensor may be a view of a large message. Returns what the session now holds. */
  readonly put: (session: string, tensors: readonly FrameTensor[]) => number;
  /** Throws WIRE_CONDITIONING_UNKNOWN. */
  readonly get: (session: string, key: string) => Kept;
  readonly drop: (session: string, keys: readonly string[]) => number;
  readonly dropSession: (session: string) => void;
  readonly bytes: () => number;
}

interface Shelf {
  /** In order of last use, oldest first. */
  readonly tensors: Map<string, Kept>;
  bytes: number;
}

export function createConditioningStore(limits: ConditioningLimits): ConditioningStore {
  const shelves = new Map<string, Shelf>();
  let total = 0;
  let contents = 0;

  const remove = (shelf: Shelf, key: string): void => {
    const bytes = shelf.tensors.get(key)?.data.byteLength;
    if (bytes === undefined) return;
    shelf.tensors.delete(key);
    shelf.bytes -= bytes;
    total -= bytes;
  };
  const removeOldest = (shelf: Shelf): void => {
    const oldest = shelf.tensors.keys().next();
    if (!oldest.done) remove(shelf, oldest.value);
  };
  const largest = (): Shelf | undefined => [...shelves.values()].toSorted((a, b) => b.bytes - a.bytes)[0];

  return {
    put(session, tensors) {
      const wanted = tensors.reduce((sum, { data }) => sum + data.byteLength, 0);
      if (wanted > limits.sessionBytes || wanted > limits.totalBytes || tensors.length > limits.keys) {
        throw new Failure(
          "WIRE_CONDITIONING_TOO_LARGE",
          `expected at most ${limits.sessionBytes} bytes and ${limits.keys} keys of conditioning, got ${wanted} bytes in ${tensors.length}`,
        );
      }
      const shelf = shelves.get(session) ?? { tensors: new Map(), bytes: 0 };
      shelves.set(session, shelf);
      for (const { name } of tensors) remove(shelf, name);
      while (shelf.tensors.size > 0 && (shelf.bytes + wanted > limits.sessionBytes || shelf.tensors.size + tensors.length > limits.keys))
        removeOldest(shelf);
      while (total + wanted > limits.totalBytes) {
        const victim = largest();
        if (victim === undefined || victim.tensors.size === 0) break;
        removeOldest(victim);
      }
      for (const tensor of tensors) {
        shelf.tensors.set(tensor.name, { ...tensor, data: new Uint8Array(tensor.data), key: `${session}/${++contents}` });
        shelf.bytes += tensor.data.byteLength;
        total += tensor.data.byteLength;
      }
      return shelf.bytes;
    },
    get(session, key) {
      const shelf = shelves.get(session);
      const tensor = shelf?.tensors.get(key);
      if (shelf === undefined || tensor === undefined)
        throw new Failure(
          "WIRE_CONDITIONING_UNKNOWN",
          "expected a key that was put before in this session; put the tensor again and repeat the step",
        );
      shelf.tensors.delete(key);
      shelf.tensors.set(key, tensor);
      return tensor;
    },
    drop(session, keys) {
      const shelf = shelves.get(session);
      if (shelf === undefined) return 0;
      for (const key of keys) remove(shelf, key);
      return shelf.bytes;
    },
    dropSession(session) {
      total -= shelves.get(session)?.bytes ?? 0;
      shelves.delete(session);
    },
    bytes: () => total,
  };
}
