// What several answers ask of the engines.

import { Failure } from "../../failure/index.ts";
import type { Engines, LiveEngine, RefitRecord } from "../../refit/index.ts";

/** Throws ENGINE_UNKNOWN. */
export function engineOf(engines: Pick<Engines, "get">, id: string): LiveEngine {
  const engine = engines.get(id);
  if (engine) return engine;
  throw new Failure("ENGINE_UNKNOWN", "expected the id of a loaded engine; there is none by this id. List the engines again.", {
    engine: id,
  });
}

/** The last change of an engine's weights that succeeded, if it came after `sinceMs`; `sinceMs` is of the monotonic clock. */
export function changeSince(engines: Pick<Engines, "status">, engine: string, sinceMs: number): RefitRecord | null {
  return engines.status.history.findLast((record) => record.engine === engine && record.failure === null && record.atMs >= sinceMs) ?? null;
}
