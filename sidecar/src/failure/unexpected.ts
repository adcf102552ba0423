// Errors that nobody threw on purpose: a fault of ours, or what the file system says. They keep their own name, and ask to be reported.

import type { FailureCode } from "./codes.ts";
import { Failure } from "./failure.ts";

/** What the file system says, in words: by the code of the error. */
export const systemTexts: Readonly<Record<string, string>> = {
  ENOENT: "there is no such file or folder; check the path",
  EACCES: "the rights do not allow it; check owner and rights of the file and its folder",
  EPERM: "the system does not allow it; check owner and rights of the file and its folder, and whether a program holds it",
  EISDIR: "expected a file, found a folder; name the file in it",
  ENOTDIR: "a part of the path is a file, not a folder; check the path",
  EEXIST: "there is something of that name already; choose another name, or move it away",
  ENOSPC: "the disk is full; free space, or write elsewhere",
  EDQUOT: "your quota on this disk is used up; free space, or write elsewhere",
  EFBIG: "the file is larger than this disk, or a limit of the shell (ulimit -f), allows; write elsewhere",
  ELOOP: "its links lead back to themselves; put the file itself there",
  EROFS: "the disk can only be read; write elsewhere",
  EMFILE: "too many files are open; raise the limit (ulimit -n) or close other programs",
  ENAMETOOLONG: "the name is too long for this disk; choose a shorter one",
  EBUSY: "another program holds it; close that program and try again",
  EIO: "the disk reports an error; check it, and copy the file elsewhere",
};

const codeOf = (error: unknown): string | null =>
  error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : null;

/** An answer of the file system rather than a fault of ours. */
export function isSystemError(error: unknown): error is NodeJS.ErrnoException {
  return error instanceof Error && "syscall" in error && codeOf(error) !== null;
}

/** `path` stands in front where the reader may see it. */
export function systemText(error: NodeJS.ErrnoException, path: string | null): string {
  const text = systemTexts[error.code ?? ""] ?? `the system answers ${error.code ?? "nothing"} to ${error.syscall ?? "a call"}`;
  return path === null ? text : `${path}: ${text}`;
}

/** Name, text and the place in our own code of an error that should not have happened, and what to do about it. Holds no path. */
export function unexpectedText(error: unknown): string {
  const what = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  const frame = /\(?([^()\s]*?)([^/\\()\s]+:\d+):\d+\)?$/m.exec(
    error instanceof Error ? (error.stack ?? "").split("\n").slice(1).join("\n") : "",
  )?.[2];
  return `unexpected ${what.slice(0, 500)}${frame === undefined ? "" : ` (${frame})`}. This is a fault of Refit Sidecar, not of your files: please report it, with this line and what you did`;
}

/** A Failure for anything that was thrown; one that is a Failure already stays as it is. */
export function asFailure(error: unknown, code: FailureCode): Failure {
  return error instanceof Failure
    ? error
    : new Failure(code, unexpectedText(error), { reason: error instanceof Error ? error.name : typeof error }, { cause: error });
}
