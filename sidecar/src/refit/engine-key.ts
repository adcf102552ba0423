import { elements } from "../terms/index.ts";
import type { EngineSpec } from "./types.ts";

/** Names the engine that a spec means. Checkpoint and stack are not part of it: those are weights. */
export function engineKey({ structure, precision, profile, hostKind, graph, steps }: EngineSpec): string {
  return [hostKind, structure.slice(0, 16), precision, profile, graph?.variant ?? (steps === true ? "module" : "parameters")].join("/");
}

/** What computes: the name of a device as `--devices` has it; null where a host chooses by itself, because there is one. */
export type DeviceName = string | null;

/** Names one engine: a spec has one on each device that holds it. */
export const placedKey = (spec: EngineSpec, device: DeviceName): string => on(engineKey(spec), device);

/** Names the host process of a kind on a device. */
export const hostKey = (kind: string, device: DeviceName): string => on(kind, device);

const on = (name: string, device: DeviceName): string => (device === null ? name : `${name}@${device}`);

/** Bytes of the engine's weights. */
export function engineBytes({ precision, parameters }: EngineSpec): number {
  const bytesPerElement = precision === "f32" ? 4 : 2;
  return parameters.names.reduce((sum, name) => sum + elements(parameters.shapes[name] ?? []) * bytesPerElement, 0);
}
