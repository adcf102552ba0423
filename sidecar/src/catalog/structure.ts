// The structure: what an engine is built for. Two checkpoints with equal structure run on one engine.

import { createHash } from "node:crypto";
import type { Parameters } from "../terms/index.ts";

/** Lower-case hex SHA-256 over `name<TAB>dim,dim,...<LF>`, lines sorted by code unit (docs/develop/internals.md). A 0-d tensor has no dimensions. */
export function structureOf(parameters: Parameters): string {
  const lines: string[] = [];
  for (const [name, shape] of parameters) lines.push(`${name}\t${shape.join(",")}\n`);
  // The default order of Array.prototype.sort is by UTF-16 code unit.
  return createHash("sha256").update(lines.sort().join(""), "utf8").digest("hex");
}
