// Which inode was last seen under which name, so that a rename is known for what it is: the same file, still whole, under another name.

import { sameFile } from "../files/index.ts";
import type { Place } from "./types.ts";
import type { Stamp } from "../files/index.ts";

/** Names that are not model files (`x.safetensors.part`) are remembered only for a while; enough for many downloads at once. */
const maxPassing = 512;

export interface Inodes {
  /** A settled file. */
  readonly settle: (place: Place, stamp: Stamp) => void;
  /** A file under a name that is not a model's; it may be renamed to one. */
  readonly pass: (path: string, stamp: Stamp) => void;
  readonly forget: (place: Place, stamp: Stamp) => void;
  /** The same content seen under another name, and whether it was whole there. */
  readonly elsewhere: (path: string, stamp: Stamp) => { readonly place: Place | null } | null;
}

function key(stamp: Stamp): string {
  return `${stamp.device}:${stamp.inode}`;
}

export function createInodes(): Inodes {
  const settled = new Map<string, { readonly place: Place; readonly stamp: Stamp }>();
  const passing = new Map<string, { readonly path: string; readonly stamp: Stamp }>();
  return {
    settle: (place, stamp) => void settled.set(key(stamp), { place, stamp }),
    pass(path, stamp) {
      passing.delete(key(stamp));
      passing.set(key(stamp), { path, stamp });
      for (const oldest of passing.keys()) {
        if (passing.size <= maxPassing) break;
        passing.delete(oldest);
      }
    },
    forget(place, stamp) {
      if (settled.get(key(stamp))?.place.path === place.path) settled.delete(key(stamp));
    },
    elsewhere(path, stamp) {
      // File systems without inode numbers report 0 for all.
      if (stamp.inode === 0n) return null;
      const known = settled.get(key(stamp));
      if (known !== undefined && known.place.path !== path && sameFile(known.stamp, stamp)) return { place: known.place };
      const passed = passing.get(key(stamp));
      return passed !== undefined && passed.path !== path && sameFile(passed.stamp, stamp) ? { place: null } : null;
    },
  };
}
