// A text that is kept between runs: one file, whole or not at all. Layout: a line with format and SHA-256 of what follows, then the text.

import { createHash } from "node:crypto";
import { mkdir, readFile, stat } from "node:fs/promises";
import { dirname } from "node:path";
import { replaceFile } from "@refit-sidecar/native/replace-file";

/** A catalog of 100,000 files is about 100 MB. */
const largest = 512 * 1024 * 1024;

const checksum = (text: string): string => createHash("sha256").update(text, "utf8").digest("hex");

export type Kept = { readonly text: string; readonly reason: null } | { readonly text: null; readonly reason: string | null };

/** `format` is raised when the meaning of the text changes. No text and no reason: there is no file. A damaged text is none. */
export async function readKept(path: string, format: string, maxBytes = largest): Promise<Kept> {
  let whole: string;
  try {
    if ((await stat(path)).size > maxBytes) return { text: null, reason: "it is larger than it can be" };
    whole = await readFile(path, "utf8");
  } catch (error) {
    const missing = error instanceof Error && "code" in error && error.code === "ENOENT";
    return { text: null, reason: missing ? null : "it could not be read" };
  }
  const line = whole.indexOf("\n");
  const [found, sum] = whole.slice(0, Math.max(0, line)).split(" ");
  const text = whole.slice(line + 1);
  if (found !== format) return { text: null, reason: "it has another format" };
  return sum === checksum(text) ? { text, reason: null } : { text: null, reason: "its checksum is wrong" };
}

/** Makes the folder where it is missing. Readable by its owner alone: the names of someone's models are nobody else's business. */
export async function keepText(path: string, format: string, text: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  await replaceFile(path, (handle) => handle.writeFile(`${format} ${checksum(text)}\n${text}`, "utf8"), { mode: 0o600 });
}
