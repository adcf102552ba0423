// Parameters of a diffusion model in canonical names (the checkpoint's own keys without the diffusion prefix).

/** Shape by canonical name. A 0-d tensor has an empty shape. */
export type Parameters = ReadonlyMap<string, readonly number[]>;

/** One more than the largest N of `prefix` + N + `.`…; 0 when there is none. */
export function countIndices(names: Iterable<string>, prefix: string): number {
  let count = 0;
  for (const name of names) {
    if (!name.startsWith(prefix)) continue;
    const index = Number.parseInt(name.slice(prefix.length), 10);
    if (Number.isInteger(index)) count = Math.max(count, index + 1);
  }
  return count;
}
