// Archives whose bytes depend on their content alone: names in one order, one time for all, no owner. In: a map of names to files or bytes. Out: a zip (a wheel is one, too).
import { createHash } from "node:crypto";
import { createWriteStream, readFileSync, readdirSync, statSync } from "node:fs";
import { join, relative, sep } from "node:path";
import { finished } from "node:stream/promises";
import yazl from "yazl";

/** Files under `folder` as name → path; names with forward slashes, under `prefix`. */
export function filesOf(folder, prefix = "") {
  const found = new Map();
  for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const path = join(entry.parentPath, entry.name);
    found.set(`${prefix}${relative(folder, path).split(sep).join("/")}`, path);
  }
  return found;
}

export const bytesOf = (source) => (typeof source === "string" ? readFileSync(source) : source);

export const sha256 = (bytes, form = "hex") => createHash("sha256").update(bytes).digest(form);

/** Days of the zip format begin in 1980. */
const earliest = Date.UTC(1980, 0, 2) / 1000;

/**
 * @param {string} out
 * @param {Map<string, string | Buffer>} files name in the archive → path or bytes
 * @param {number} epoch seconds; the time of every entry
 */
export async function writeZip(out, files, epoch) {
  const zip = new yazl.ZipFile();
  const mtime = new Date(Math.max(epoch, earliest) * 1000);
  for (const name of [...files.keys()].sort((a, b) => (a < b ? -1 : 1))) {
    zip.addBuffer(bytesOf(files.get(name)), name, { mtime, mode: 0o100644, forceDosTimestamp: true, compressionLevel: 9 });
  }
  zip.end();
  await finished(zip.outputStream.pipe(createWriteStream(out)));
  return statSync(out).size;
}
