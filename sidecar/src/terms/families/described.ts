// A family's description beside the shapes of one model: named dimensions, rows of names, conditions.

import { familyTable, type Family, type FamilyDescription, type NameRow } from "@refit-sidecar/protocol";
import type { Parameters } from "../names/parameters.ts";
import { countIndices } from "../names/parameters.ts";
import type { StemPair } from "../names/stem.ts";
import { evaluate, fillTemplate, truth, type Scope, type Value } from "./expression.ts";

const byName: ReadonlyMap<string, FamilyDescription> = new Map(familyTable.map((one) => [one.family, one]));

export function descriptionOf(family: Family): FamilyDescription {
  const found = byName.get(family);
  if (found === undefined) throw new TypeError(`protocol/families has no ${family}.json`);
  return found;
}

/** Named dimensions over `shapes`, each computed when it is asked for. `given` values come first (block counts of a diffusers file). */
export function scopeOf(description: FamilyDescription, shapes: Parameters, given: Readonly<Record<string, Value>> = {}): Scope {
  const known = new Map<string, Value>(Object.entries(given));
  const scope: Scope = {
    shapes,
    named(name) {
      const value = known.get(name);
      if (value !== undefined) return value;
      const text = description.dimensions[name];
      if (text === undefined) throw new TypeError(`${description.family}.json has no dimension ${name}`);
      // A dimension that needs itself would never end.
      known.set(name, null);
      const computed = evaluate(text, scope);
      known.set(name, computed);
      return computed;
    },
  };
  return scope;
}

const within = (scope: Scope, n: number): Scope => ({ shapes: scope.shapes, named: (name) => (name === "n" ? n : scope.named(name)) });

/** One parameter's two names, or one part's of a fused parameter. */
export interface NamePair extends StemPair {
  /** Both are whole parameter names. */
  readonly bare?: true;
  readonly only?: "adapters" | "files" | "extended";
  /** The parameter's shape, where a diffusers file has another one. */
  readonly shapeOf?: (size: number) => readonly number[];
}

interface FullRow {
  readonly native: string;
  readonly diffusers?: string;
  readonly parts?: readonly (readonly [string, string])[];
  readonly suffix?: string | undefined;
  readonly bare?: true | undefined;
  readonly swap?: true | string | undefined;
  readonly only?: "adapters" | "files" | "extended" | undefined;
  readonly shape?: readonly string[] | undefined;
  readonly when?: string | undefined;
}

const shapeOf =
  (shape: readonly string[], scope: Scope) =>
  (size: number): readonly number[] =>
    shape.map((text) => Number(evaluate(text, { shapes: scope.shapes, named: (name) => (name === "size" ? size : scope.named(name)) })));

const fullRow = (row: NameRow): FullRow => (Array.isArray(row) ? { native: row[0], diffusers: row[1] } : (row as FullRow));

function pairsOfRow(row: FullRow, native: string, diffusers: string, scope: Scope, reading: Reading): NamePair[] {
  if (row.when !== undefined && !truth(evaluate(row.when, scope))) return [];
  const swap = row.swap === true || (row.swap !== undefined && truth(evaluate(row.swap, scope)));
  const common = {
    native: fillTemplate(native + row.native, scope),
    ...(row.suffix === undefined ? {} : { nativeSuffix: row.suffix }),
    ...(swap ? { swapHalves: true } : {}),
    ...(row.bare === undefined ? {} : { bare: row.bare }),
    ...(row.only === undefined ? {} : { only: row.only }),
    ...(row.shape === undefined ? {} : { shapeOf: shapeOf(row.shape, scope) }),
  };
  if (row.parts === undefined) return [{ ...common, diffusers: fillTemplate(diffusers + (row.diffusers ?? row.native), scope) }];
  const lengths = row.parts.map(([, rows]) => evaluate(rows, scope));
  // A partial file may hold nothing that tells the rows; the reader of a diffusers file counts them itself.
  if (!lengths.every((length) => typeof length === "number"))
    return reading === "file" ? row.parts.map(([name]) => ({ ...common, diffusers: fillTemplate(diffusers + name, scope) })) : [];
  return row.parts.map(([name], part) => ({
    ...common,
    diffusers: fillTemplate(diffusers + name, scope),
    slice: { start: lengths.slice(0, part).reduce((sum, length) => sum + length, 0), length: lengths[part] ?? 0 },
  }));
}

/** Whose names are asked for: a structure's, with rows of fused parameters, or a diffusers file's, whose parts show their rows themselves. */
type Reading = "structure" | "file";

/** Every pair of names that the description lists, blocks in order. */
export function namePairs(description: FamilyDescription, scope: Scope, reading: Reading = "structure"): NamePair[] {
  return (description.names ?? []).flatMap((group) => {
    const rows = group.rows.map(fullRow);
    const [native, diffusers] = [group.native ?? "", group.diffusers ?? ""];
    if (group.blocks === undefined) return rows.flatMap((row) => pairsOfRow(row, native, diffusers, scope, reading));
    const blocks = Number(scope.named(group.blocks) ?? 0);
    return Array.from({ length: blocks }, (_, n) =>
      rows.flatMap((row) => pairsOfRow(row, native, diffusers, within(scope, n), reading)),
    ).flat();
  });
}

/** Block counts as a diffusers file has them, by dimension. */
export function diffusersBlocks(description: FamilyDescription, names: Iterable<string>): Record<string, number> {
  const all = [...names];
  const counts: Record<string, number> = {};
  for (const { blocks, diffusers, rows } of description.names ?? []) {
    const first = rows[0] === undefined ? null : fullRow(rows[0]);
    const name = (diffusers ?? "") + (first?.diffusers ?? first?.parts?.[0]?.[0] ?? "");
    if (blocks !== undefined) counts[blocks] = Math.max(counts[blocks] ?? 0, countIndices(all, name.split("{n}")[0] ?? ""));
  }
  return counts;
}
