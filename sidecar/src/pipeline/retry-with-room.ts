// Work that lacked memory is tried once more after the UI has made room.

import { Failure } from "../failure/index.ts";

/** Memory pressure that the UI can relieve by unloading its own models. */
const roomCodes: ReadonlySet<string> = new Set(["REFIT_NO_ROOM", "HOST_OUT_OF_MEMORY"]);

/** `makeRoom`: bytes wanted to bytes freed. The second time a host takes what there is (`streams`: it can, by streaming weights), so it is asked again though nothing was freed. Throws the work's own failure. */
export async function withRoom<T>(work: () => Promise<T>, makeRoom: (bytes: number) => Promise<number>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof Failure) || !roomCodes.has(error.code)) throw error;
    const freed = await makeRoom(Number(error.evidence["bytes"] ?? 0));
    if (freed <= 0 && error.evidence["streams"] !== true) throw error;
    return work();
  }
}

/** For work that no client waits for: nobody can be asked. */
export const nobodyToAsk = async (): Promise<number> => 0;
