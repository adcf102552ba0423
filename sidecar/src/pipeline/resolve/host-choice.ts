// Which GPU host won on this computer, as the tensorrt host noted it when it made an engine and compared it with PyTorch's (refit_tensorrt/store.py).

import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import type { EngineSpec } from "../../refit/index.ts";

/** A note has about 300 bytes; more is not one. */
const maxBytes = 64 * 1024;
const note = z.object({
  formatVersion: z.literal(1),
  structure: z.string(),
  dtype: z.string(),
  chosen: z.enum(["torch", "tensorrt"]),
  tensorrtMs: z.number().optional(),
  torchMs: z.number().optional(),
});

/** The faster host of a structure and dtype whose output was checked here; null when they were never compared. `folder`: the engine store; null: nothing is read. */
export function hostChoice(folder: string | null, structure: string, dtype: EngineSpec["precision"]): "torch" | "tensorrt" | null {
  if (folder === null) return null;
  const path = join(folder, `choice-${structure.slice(0, 32)}-${dtype}.json`);
  try {
    if (statSync(path).size > maxBytes) return null;
    const read = note.parse(JSON.parse(readFileSync(path, "utf8")));
    if (read.structure !== structure || read.dtype !== dtype) return null;
    // Only a step that was timed on both counts as won.
    const won = read.chosen === "tensorrt" && read.tensorrtMs !== undefined && read.torchMs !== undefined && read.tensorrtMs < read.torchMs;
    return won ? "tensorrt" : "torch";
  } catch {
    return null; // no note, or none that can be read: PyTorch serves
  }
}
