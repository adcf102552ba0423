import { hashOf } from "../../hosts/fixtures.ts";
import type { EngineSpec, Wanted } from "../../../sidecar/src/refit/index.ts";

export const names = ["a", "b", "c"];

export const spec = (structure = "s".repeat(64), names_ = names, fixed: readonly string[] = []): EngineSpec => ({
  structure,
  precision: "f32",
  profile: "any",
  hostKind: "fake",
  graph: null,
  parameters: { names: names_, fixed: new Set(fixed), shapes: Object.fromEntries(names_.map((name) => [name, [2, 4]])) },
});

/** A state by checkpoint and adapters; each adapter touches the parameters that its name spells. */
export function wanted(checkpoint: string, ...adapters: [string, number][]): Wanted {
  const list = adapters.map(([name, strength]) => ({
    id: name,
    file: { delta: name, sha256: hashOf(name), strength },
    touches: { parameters: [...name], reshapes: [] },
  }));
  return {
    desired: { checkpoint, stack: list.map(({ file }) => ({ sha256: file.sha256, strength: file.strength })) },
    checkpoint: { files: [{ path: checkpoint, sizeBytes: 1, mtimeNs: "1", inode: "1" }], parameters: {} },
    adapters: list,
  };
}
