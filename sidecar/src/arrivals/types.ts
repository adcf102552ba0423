// Words of the arrivals stage. Everything here is plain data, so later stages may import these types.

import type { Stamp } from "../files/index.ts";

export type FileKind = "adapter" | "checkpoint";

/** A folder that the user named. `key` is opaque and stable for one real path; it never holds the path itself. */
export interface WatchedFolder {
  readonly key: string;
  readonly path: string;
  /** What files in it are unless their header says otherwise. */
  readonly kind: FileKind;
}

/** A file by its place. `name` is relative to the folder with `/` separators, spelled as the folder lists it (not normalised). */
export interface Place {
  readonly folder: WatchedFolder;
  readonly name: string;
  readonly path: string;
}

/** Times are monotonic milliseconds of the injected clock. */
export type ArrivalEvent =
  /** The file is whole and quiet. Comes again after every later change. */
  | (Place & {
      readonly type: "settled";
      readonly stamp: Stamp;
      readonly arrivedAtMs: number;
      readonly settledAtMs: number;
      readonly renamedFrom?: Place;
    })
  /** A settled file is being written to; a `settled`, `refused` or `gone` follows. */
  | (Place & { readonly type: "changed"; readonly atMs: number })
  | (Place & { readonly type: "gone"; readonly atMs: number })
  | (Place & {
      readonly type: "refused";
      readonly code: RefusalCode;
      readonly message: string;
      readonly stamp: Stamp | null;
      readonly atMs: number;
    })
  /** Every file of the folder that was old enough to be judged at once has been reported; `unreadable` lists subfolders that could not be listed. */
  | { readonly type: "scanned"; readonly folder: WatchedFolder; readonly unreadable: readonly string[]; readonly atMs: number }
  /** The folder itself cannot be read (unmounted, deleted, no permission). Its files are not reported gone. */
  | { readonly type: "lost"; readonly folder: WatchedFolder; readonly code: string; readonly atMs: number }
  /** The folder is not watched any more, by request. */
  | { readonly type: "dropped"; readonly folder: WatchedFolder; readonly atMs: number };

export type RefusalCode =
  | "ARRIVALS_NOT_A_REGULAR_FILE"
  | "ARRIVALS_UNREADABLE"
  | "ARRIVALS_NAME_NOT_UTF8"
  | "ARRIVALS_UNSUPPORTED_FORMAT"
  | "ARRIVALS_NOT_SAFETENSORS"
  | "ARRIVALS_INCOMPLETE";

/** Events that belong together (a rename is `gone` + `settled`); apply a batch as one change. */
export type ArrivalListener = (batch: readonly ArrivalEvent[]) => void;
