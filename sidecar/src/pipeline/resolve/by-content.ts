// An adapter that a client names by its content. Files are hashed when they are first used, so the one that is meant may lie there unread.

import type { Catalog } from "../../catalog/index.ts";
import { Failure } from "../../failure/index.ts";

/** As many as the catalog reads at one time. */
const readers = 2;
/** A folder of thousands takes an hour to read; whoever asks again finds what was read meanwhile. */
const patienceMs = 30_000;

/** Reads adapters whose content nobody knows until one has it. Throws CATALOG_ENTRY_UNKNOWN, and what `signal` says. */
export async function findByContent(
  catalog: Pick<Catalog, "snapshot" | "identity">,
  sha256: string,
  signal?: AbortSignal,
  nowMs: () => number = () => performance.now(),
): Promise<string> {
  const unread = [...catalog.snapshot().entries.values()].filter(
    ({ kind, problem, identity }) => kind === "adapter" && problem === null && identity?.proof !== "full",
  );
  const until = nowMs() + patienceMs;
  let found: string | null = null;
  let next = 0;
  const read = async (): Promise<void> => {
    for (let entry = unread[next]; entry !== undefined && found === null && nowMs() < until; entry = unread[next]) {
      signal?.throwIfAborted();
      next += 1;
      // One that is gone or changed is not the one that is meant.
      const identity = await catalog.identity(entry.id, "full").catch(() => null);
      if (identity?.sha256 === sha256) found = entry.id;
    }
  };
  await Promise.all(Array.from({ length: readers }, read));
  if (found !== null) return found;
  const rest = unread.length - next;
  throw new Failure(
    "CATALOG_ENTRY_UNKNOWN",
    rest === 0
      ? "no catalogued adapter has this content; push it, or add its folder"
      : `no catalogued adapter that was read so far has this content, ${rest} were not; ask again, or name it by its id`,
    { sha256 },
  );
}
