import type { DesiredState, StackItem } from "./types.ts";

export function sameStack(a: readonly StackItem[], b: readonly StackItem[]): boolean {
  return a.length === b.length && a.every((item, index) => item.sha256 === b[index]?.sha256 && item.strength === b[index].strength);
}

/** Equal weights by construction: one checkpoint, and the same adapters in the same order, at the same strengths and with the same limit of loss. */
export function sameState(a: DesiredState, b: DesiredState): boolean {
  return a.checkpoint === b.checkpoint && a.adapterLoss === b.adapterLoss && sameStack(a.stack, b.stack);
}

/** A text that is equal for equal states; key of maps. */
export function stateKey(state: DesiredState): string {
  return JSON.stringify([state.checkpoint, state.adapterLoss ?? null, ...state.stack.map((item) => [item.sha256, item.strength])]);
}
