// Words of the arrivals stage. Everything here is plain data, so later stages may import these types.

export type FileKind = "adapter" | "checkpoint";

/** A folder that the user named. `key` is opaque and stable for one real path; it never holds the path itself. */
export interface WatchedFolder {
  readonly key: string;
  readonly path: string;
  /** What files in it are unless their header says otherwise. */
  readonly kind: FileKind;
}

/** What a file was at one moment. Two equal stamps mean: nothing happened to the file in between that its file system would tell. */
export interface Stamp {
  readonly sizeBytes: number;
  readonly mtimeNs: bigint;
  /** Change time: moves with every write, rename, link and attribute change; cannot be set by a program. */
  readonly ctimeNs: bigint;
  readonly inode: bigint;
  readonly device: bigint;
  /** When the inode was taken for this file: tells a renamed file from a new one that got the inode of a deleted one. 0 where the file system does not say. */
  readonly bornNs: bigint;
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

export function sameStamp(a: Stamp, b: Stamp): boolean {
  return sameContentStamp(a, b) && a.ctimeNs === b.ctimeNs;
}

/** One file under two names: a rename or a link lies between, but no write that left a trace. Never by inode alone, because inodes are used again. */
export function sameFile(a: Stamp, b: Stamp): boolean {
  return a.bornNs !== 0n && a.bornNs === b.bornNs && sameContentStamp(a, b);
}

/** Equal but for the change time: a rename, a link or an attribute change lies between, or a program that put the modification time back. */
export function sameContentStamp(a: Stamp, b: Stamp): boolean {
  return a.sizeBytes === b.sizeBytes && a.mtimeNs === b.mtimeNs && a.inode === b.inode && a.device === b.device;
}
