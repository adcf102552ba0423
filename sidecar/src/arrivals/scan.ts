// Walks a folder and everything below it. Out: paths worth a look, in folder order. Never follows a link in a circle, never fails as a whole.

import { join } from "node:path";
import { classifyName, isSearchedFolder } from "./candidates.ts";
import type { Files } from "./world.ts";

/** Deeper than any model tree; stops a circle that a network drive hides by changing inode numbers. */
const maxDepth = 32;
/** Far above any collection; a folder above it is `/` or a home named by mistake. */
const maxFiles = 200_000;

export interface Scan {
  readonly found: readonly string[];
  /** Every folder that was listed, the root included. */
  readonly folders: readonly string[];
  /** Links among `found`. */
  readonly links: readonly string[];
  /** Folders that could not be listed; what was known below them stays known. */
  readonly unreadable: readonly { readonly path: string; readonly code: string }[];
}

export async function scanFolder(root: string, files: Files): Promise<Scan> {
  const found: string[] = [];
  const folders: string[] = [];
  const links: string[] = [];
  const unreadable: { path: string; code: string }[] = [];
  const walk = async (folder: string, above: readonly string[]): Promise<void> => {
    const listing = await files.list(folder);
    if ("error" in listing) {
      unreadable.push({ path: folder, code: listing.error });
      return;
    }
    folders.push(folder);
    for (const entry of listing.entries) {
      const path = join(folder, entry.name);
      if (found.length >= maxFiles) {
        unreadable.push({ path: folder, code: `more than ${maxFiles} files` });
        return;
      }
      if (classifyName(entry.name) !== "ignored" && entry.kind !== "folder") {
        found.push(path);
        if (entry.kind === "link") links.push(path);
        continue;
      }
      if (entry.kind !== "folder" && entry.kind !== "link") continue;
      if (!isSearchedFolder(entry.name) || above.length >= maxDepth) continue;
      const look = await files.look(path, true);
      if (look.is !== "folder") continue;
      const identity = `${look.device}:${look.inode}`;
      // A link to a folder above it. On file systems without inode numbers (0) only the depth stops it.
      if (look.inode !== 0n && above.includes(identity)) continue;
      await walk(path, [...above, identity]);
    }
  };
  const top = await files.look(root, true);
  if (top.is !== "folder")
    return { found, folders, links, unreadable: [{ path: root, code: top.is === "unreadable" ? top.code : "ENOENT" }] };
  await walk(root, [`${top.device}:${top.inode}`]);
  return { found, folders, links, unreadable };
}
