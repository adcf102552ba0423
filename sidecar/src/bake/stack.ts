// The adapters of a job, packed for a base and opened.

import { native } from "@refit-sidecar/native";
import { ensureDelta } from "../delta/index.ts";
import type { ReadyDelta } from "../delta/index.ts";
import { f32Factors, openDelta } from "../terms/index.ts";
import type { Addend, Delta, MergeMode } from "../terms/index.ts";
import type { BaseModel } from "./base.ts";

export interface StackedDelta {
  readonly ready: ReadyDelta;
  readonly delta: Delta & { close(): Promise<void> };
  readonly strength: number;
}

/** Packs adapters into `folder`. Throws what hashing and packing throw; nothing stays open then. */
export async function openStack(
  base: BaseModel,
  adapters: readonly { readonly path: string; readonly strength: number }[],
  { mode, folder, signal }: { readonly mode: MergeMode; readonly folder: string; readonly signal?: AbortSignal },
): Promise<StackedDelta[]> {
  const stack: StackedDelta[] = [];
  const target = { family: base.family, structure: base.structure, parameters: base.parameters };
  try {
    for (const { path, strength } of adapters) {
      const sha256 = await native.hashFile(path, signal);
      const ready = await ensureDelta({ adapter: { path, sha256 }, target, mode, folder, base: base.source }, native, signal);
      stack.push({ ready, delta: await openDelta(await native.openTensorFile(ready.path)), strength });
    }
    return stack;
  } catch (error) {
    for (const { delta } of stack) await delta.close();
    throw error;
  }
}

export function addendsOf(stack: readonly StackedDelta[], parameter: string): Addend[] {
  return stack.flatMap(({ ready, delta, strength }, adapter) => {
    // A reader per parameter: factors in f32 are dropped with it, so memory does not grow with the adapter.
    const factors = f32Factors((name) => delta.factor(name), native);
    return ready.header.terms.filter((term) => term.target.parameter === parameter).map((term) => ({ term, strength, factors, adapter }));
  });
}
