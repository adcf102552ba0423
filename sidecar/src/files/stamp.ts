import { stat } from "node:fs/promises";
import type { BigIntStats } from "node:fs";
import type { FileStamp } from "@refit-sidecar/native";

export type { FileStamp };

/** What a file was at one moment. Two equal stamps mean: nothing happened to the file in between that its file system would tell. */
export interface Stamp extends FileStamp {
  /** Change time: moves with every write, rename, link and attribute change; cannot be set by a program. */
  readonly ctimeNs: bigint;
  readonly device: bigint;
  /** When the inode was taken for this file: tells a renamed file from a new one that got the inode of a deleted one. 0 where the file system does not say. */
  readonly bornNs: bigint;
}

export function stampOf(stats: BigIntStats): Stamp {
  return {
    sizeBytes: Number(stats.size),
    mtimeNs: stats.mtimeNs,
    ctimeNs: stats.ctimeNs,
    inode: stats.ino,
    device: stats.dev,
    bornNs: stats.birthtimeNs,
  };
}

/** Null for what is no plain file, and for what is gone. */
export async function readStamp(path: string): Promise<Stamp | null> {
  const found = await stat(path, { bigint: true }).catch(() => null);
  return found === null || !found.isFile() ? null : stampOf(found);
}

/** A stamp as messages carry it: numbers beyond 2^53 are text there. */
export function fileStampOf(sent: { readonly sizeBytes: number; readonly mtimeNs: string; readonly inode: string }): FileStamp {
  return { sizeBytes: sent.sizeBytes, mtimeNs: BigInt(sent.mtimeNs), inode: BigInt(sent.inode) };
}

/** The file that was opened is the file that was catalogued. */
export function sameRead(a: FileStamp, b: FileStamp): boolean {
  return a.sizeBytes === b.sizeBytes && a.mtimeNs === b.mtimeNs && a.inode === b.inode;
}

/** Equal but for the change time: a rename, a link or an attribute change lies between, or a program that put the modification time back. */
export function sameContentStamp(a: Stamp, b: Stamp): boolean {
  return sameRead(a, b) && a.device === b.device;
}

export function sameStamp(a: Stamp, b: Stamp): boolean {
  return sameContentStamp(a, b) && a.ctimeNs === b.ctimeNs;
}

/** One file under two names: a rename or a link lies between, but no write that left a trace. Never by inode alone, because inodes are used again. */
export function sameFile(a: Stamp, b: Stamp): boolean {
  return a.bornNs !== 0n && a.bornNs === b.bornNs && sameContentStamp(a, b);
}
