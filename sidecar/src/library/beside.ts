// Files that lie beside a model file and share its name. The names are ours alone: nothing of a request is ever part of a path.

import { constants } from "node:fs";
import { lstat, open } from "node:fs/promises";
import { basename, dirname, extname, join } from "node:path";

// Both are absent on Windows.
const flags = constants.O_RDONLY | (constants.O_NONBLOCK ?? 0) | (constants.O_NOFOLLOW ?? 0);

/** `styles/ink.safetensors` and `.preview.png` give `styles/ink.preview.png`. */
export const besideName = (model: string, ending: string): string => join(dirname(model), `${basename(model, extname(model))}${ending}`);

/**
 * The bytes of the first of these files that is there. Links are not followed, pipes and devices not opened, a file larger than `limitBytes` is passed over: whoever
 * writes into a models folder must not show other files of the user.
 */
export async function readBeside(model: string, endings: readonly string[], limitBytes: number): Promise<Buffer | null> {
  for (const ending of endings) {
    const found = await readPlain(besideName(model, ending), limitBytes);
    if (found !== null) return found;
  }
  return null;
}

/** Whether one of these files is there, as `readBeside` would take it. */
export async function isBeside(model: string, endings: readonly string[], limitBytes: number): Promise<boolean> {
  for (const ending of endings) {
    const found = await lstat(besideName(model, ending)).catch(() => null);
    if (found?.isFile() === true && found.size > 0 && found.size <= limitBytes) return true;
  }
  return false;
}

async function readPlain(path: string, limitBytes: number): Promise<Buffer | null> {
  const before = await lstat(path).catch(() => null);
  if (before?.isFile() !== true) return null;
  const handle = await open(path, flags).catch(() => null);
  if (handle === null) return null;
  try {
    const { size, ino } = await handle.stat();
    if (size === 0 || size > limitBytes || ino !== before.ino) return null;
    const bytes = Buffer.alloc(size);
    const { bytesRead } = await handle.read(bytes, 0, size, 0);
    return bytesRead === size ? bytes : null;
  } catch {
    return null;
  } finally {
    await handle.close();
  }
}
