import type { EngineSpec } from "./types.ts";

/** Names the engine that a spec means. Checkpoint and stack are not part of it: those are weights. */
export function engineKey({ structure, precision, profile, hostKind, graph, steps }: EngineSpec): string {
  return [hostKind, structure.slice(0, 16), precision, profile, graph?.variant ?? (steps === true ? "module" : "parameters")].join("/");
}

/** Bytes of the engine's weights. */
export function engineBytes({ precision, parameters }: EngineSpec): number {
  const bytesPerElement = precision === "f32" ? 4 : 2;
  return parameters.names.reduce(
    (sum, name) => sum + (parameters.shapes[name] ?? []).reduce((product, dimension) => product * dimension, bytesPerElement),
    0,
  );
}
