// The saved catalog: one text file, whole or not at all. Layout: a line with format and SHA-256 of what follows, then the text.

import { createHash } from "node:crypto";
import { mkdir, readFile } from "node:fs/promises";
import { dirname } from "node:path";
import { replaceFile } from "../../files/index.ts";

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

export async function saveText(path: string, text: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  // Owner only: the names of someone's models are nobody else's business.
  await replaceFile(path, (handle) => handle.writeFile(`${catalogFormat} ${checksum(text)}\n${text}`, "utf8"), { mode: 0o600 });
}
