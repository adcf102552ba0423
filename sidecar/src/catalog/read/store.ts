// The saved catalog: one text file, whole or not at all. Layout: a line with format and SHA-256 of what follows, then the text.

import { createHash, randomBytes } from "node:crypto";
import { mkdir, open, readFile, rename, rm } from "node:fs/promises";
import { dirname } from "node:path";

/** Raised when the meaning of the saved fields changes; a file of another format is rebuilt from headers. */
export const catalogFormat = "refit-catalog-1";

function checksum(text: string): string {
  return createHash("sha256").update(text, "utf8").digest("hex");
}

export async function loadText(path: string): Promise<{ readonly text: string | null; readonly reason: string | null }> {
  let whole: string;
  try {
    whole = await readFile(path, "utf8");
  } catch (error) {
    const missing = typeof error === "object" && error !== null && "code" in error && error.code === "ENOENT";
    return { text: null, reason: missing ? null : "it could not be read" };
  }
  const line = whole.indexOf("\n");
  const [found, sum] = whole.slice(0, Math.max(0, line)).split(" ");
  const text = whole.slice(line + 1);
  if (found !== catalogFormat) return { text: null, reason: "it has another format" };
  if (sum !== checksum(text)) return { text: null, reason: "its checksum is wrong" };
  return { text, reason: null };
}

/** Windows has no handle for a folder to sync; NTFS journals the rename itself. */
async function syncFolder(path: string): Promise<void> {
  if (process.platform === "win32") return;
  const handle = await open(path, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

export async function saveText(path: string, text: string): Promise<void> {
  const folder = dirname(path);
  await mkdir(folder, { recursive: true });
  const temporary = `${path}.${process.pid}.${randomBytes(6).toString("hex")}.tmp`;
  try {
    // Owner only: the names of someone's models are nobody else's business.
    const handle = await open(temporary, "wx", 0o600);
    try {
      await handle.writeFile(`${catalogFormat} ${checksum(text)}\n${text}`, "utf8");
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true }).catch(() => undefined);
    throw error;
  }
  await syncFolder(folder);
}
