// Names and ids. Pure.

import { createHash } from "node:crypto";

/**
 * Id of an entry. A hash, because names can be longer than an id may be, may differ in Unicode form only, and must not be taken apart by clients.
 * 80 bits: no collision in any real collection, and none worth making (an id grants nothing).
 */
export function entryId(kind: "adapter" | "checkpoint", folder: string | null, name: string): string {
  return `${kind}:${createHash("sha256")
    .update(`${folder ?? ""}\0${name}`)
    .digest("hex")
    .slice(0, 20)}`;
}

/** Names that people type are compared in one Unicode form: macOS stores `é` as two code points, keyboards send one. */
export function sameName(a: string, b: string): boolean {
  return a === b || a.normalize("NFC") === b.normalize("NFC");
}

const shardPattern = /^(.+)-(\d{3,6})-of-(\d{3,6})(\.safetensors)$/i;

/** Count cap: the largest public model has fewer than 200 shards. */
const maxShards = 1000;

export interface ShardName {
  /** Name of the whole: `model.safetensors` of `model-00001-of-00003.safetensors`. */
  readonly whole: string;
  readonly index: number;
  readonly count: number;
}

export function shardName(name: string): ShardName | null {
  const match = shardPattern.exec(name);
  if (match === null) return null;
  const index = Number(match[2]);
  const count = Number(match[3]);
  return index < 1 || index > count || count > maxShards ? null : { whole: `${match[1] ?? ""}${match[4] ?? ""}`, index, count };
}

export function shardNames(name: string): readonly string[] {
  const shard = shardName(name);
  if (shard === null) return [name];
  const stem = shard.whole.slice(0, -".safetensors".length);
  const extension = name.slice(-".safetensors".length);
  const digits = /-of-(\d+)\./.exec(name.slice(stem.length))?.[1]?.length ?? 5;
  const padded = (value: number) => String(value).padStart(digits, "0");
  return Array.from({ length: shard.count }, (_, index) => `${stem}-${padded(index + 1)}-of-${padded(shard.count)}${extension}`);
}

/** `names`, and every other shard of the sets that they belong to, in name order: a table that lists one shard of two does not make it the whole. */
export function completeShards(names: readonly string[]): readonly string[] {
  return [...new Set(names.flatMap(shardNames))].sort();
}

const indexPattern = /^(.*\.safetensors)\.index(\.[\w-]+)?\.json$/i;

/** A shard table by its name; `model.safetensors.index.fp16.json` is the one of a variant. */
export function isIndexName(name: string): boolean {
  return /\.index(\.[\w-]+)?\.json$/i.test(name);
}

/** `model.safetensors` for `model.safetensors.index.json`, `model.fp16.safetensors` for `model.safetensors.index.fp16.json`; null for any other name. */
export function indexedName(name: string): string | null {
  const [, whole, variant = ""] = indexPattern.exec(name) ?? [];
  return whole === undefined ? null : `${whole.slice(0, -".safetensors".length)}${variant}${whole.slice(-".safetensors".length)}`;
}

/** One hash for the files of a whole, in order; a single file's own. */
export function combinedHash(hashes: readonly string[]): string {
  const [only] = hashes;
  if (only !== undefined && hashes.length === 1) return only;
  return createHash("sha256").update(hashes.join("\n")).digest("hex");
}
