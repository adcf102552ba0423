import { Failure } from "../failure/index.ts";
import type { HostCall } from "../host/types.ts";

type Checksums = Readonly<Record<string, string>>;

/**
 * Compares what the engine holds with what was computed from the files. Throws Failure REFIT_CHECKSUM_MISMATCH naming the first parameters that differ: the
 * engine stays UNKNOWN then.
 */
export async function checkWeights(call: HostCall, engine: string, computed: Checksums, parameters: readonly string[]): Promise<void> {
  const { sha256: held } = await call("checksums", { engine });
  const wrong = parameters.filter((name) => computed[name] === undefined || computed[name] !== held[name]);
  if (wrong.length === 0) return;
  throw new Failure(
    "REFIT_CHECKSUM_MISMATCH",
    `expected every weight of the engine as it was computed; ${wrong.length} of ${parameters.length} differ, first ${wrong[0]}. The engine is loaded again; if this repeats, check the computer's memory.`,
    {
      engine,
      parameters: wrong.slice(0, 20),
      count: wrong.length,
    },
  );
}
