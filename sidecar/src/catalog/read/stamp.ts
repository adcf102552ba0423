import { stat } from "node:fs/promises";
import type { Stamp } from "../../arrivals/types.ts";

export async function readStamp(path: string): Promise<Stamp | null> {
  const found = await stat(path, { bigint: true }).catch(() => null);
  if (found === null || !found.isFile()) return null;
  return {
    sizeBytes: Number(found.size),
    mtimeNs: found.mtimeNs,
    ctimeNs: found.ctimeNs,
    inode: found.ino,
    device: found.dev,
    bornNs: found.birthtimeNs,
  };
}
