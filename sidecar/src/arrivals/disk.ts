// The real files. Edge: the only place of this stage, with mark.ts, that touches the disk.

import { stat as statCallback } from "node:fs";
import type { BigIntStats } from "node:fs";
import { lstat, readdir } from "node:fs/promises";
import { basename, dirname } from "node:path";
import { errorCode } from "./error-code.ts";
import { markFile } from "./mark.ts";
import type { Files, Listing, Look } from "./world.ts";
import { stampOf } from "../files/index.ts";

/** The callback form costs half of the promise form, and a scan asks about every file there is. */
function stat(path: string): Promise<BigIntStats> {
  return new Promise((resolve, reject) => {
    statCallback(path, { bigint: true }, (error, found) => (error === null ? resolve(found) : reject(error)));
  });
}

const missingCodes = new Set(["ENOENT", "ENOTDIR"]);

/** macOS and Windows open `Foo` under the name `foo` (and NFC under NFD), so after a case-only rename the old name would still seem to be there. */
async function isListed(path: string): Promise<boolean> {
  const names = await readdir(dirname(path));
  return names.includes(basename(path));
}

function kindOf(entry: {
  isFile: () => boolean;
  isDirectory: () => boolean;
  isSymbolicLink: () => boolean;
}): "file" | "folder" | "link" | "irregular" {
  if (entry.isFile()) return "file";
  if (entry.isDirectory()) return "folder";
  return entry.isSymbolicLink() ? "link" : "irregular";
}

export function createDisk(platform: NodeJS.Platform = process.platform): Files {
  const foldsNames = platform === "darwin" || platform === "win32";
  return {
    async look(path, listed = false): Promise<Look> {
      try {
        const found = await stat(path);
        if (found.isDirectory()) return { is: "folder", device: found.dev, inode: found.ino };
        if (!found.isFile()) return { is: "irregular", what: found.isFIFO() ? "a pipe" : found.isSocket() ? "a socket" : "a device" };
        if (foldsNames && !listed && !(await isListed(path))) return { is: "missing" };
        return { is: "file", stamp: stampOf(found) };
      } catch (error) {
        const code = errorCode(error);
        if (!missingCodes.has(code)) return { is: "unreadable", code };
        const dangling = await lstat(path).then(
          (entry) => entry.isSymbolicLink(),
          () => false,
        );
        return dangling ? { is: "irregular", what: "a link to nothing" } : { is: "missing" };
      }
    },
    async list(folder): Promise<Listing> {
      try {
        const entries = await readdir(folder, { withFileTypes: true });
        return { entries: entries.map((entry) => ({ name: entry.name, kind: kindOf(entry) })) };
      } catch (error) {
        return { error: errorCode(error) };
      }
    },
    mark: (path) =>
      markFile(path, (beside) =>
        stat(beside).then(
          () => true,
          () => false,
        ),
      ),
  };
}
