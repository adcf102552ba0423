// From Node's stat result to a stamp.

import type { BigIntStats } from "node:fs";
import type { Stamp } from "./types.ts";

export function stampOf(stat: BigIntStats): Stamp {
  return {
    sizeBytes: Number(stat.size),
    mtimeNs: stat.mtimeNs,
    ctimeNs: stat.ctimeNs,
    inode: stat.ino,
    device: stat.dev,
    bornNs: stat.birthtimeNs,
  };
}
