// What a command prints arrives whole, or ends quietly. A pipe is written in the background: whoever leaves before it is empty cuts the last page off.

import type { Writable } from "node:stream";
import { exitCode } from "./exit.ts";

/** Standard output and error of a command. */
export interface Printed {
  /** Waits until everything written so far has been taken by the reader, however slow; at once where the reader is gone. Returns the status to leave with. */
  readonly whole: (code: number) => Promise<number>;
}

const codeOf = (error: unknown): string => (error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : "");

/** A reader that has left (`| head`): its pipe, or the network connection behind it, is closed. */
const readerLeft = (error: unknown): boolean => ["EPIPE", "ECONNRESET", "ERR_STREAM_DESTROYED", "EOF"].includes(codeOf(error));

/**
 * Watches the two streams from the start of a command. A reader that leaves is no error: what follows is dropped, the command goes on and ends with its own
 * status, because its result is often a file. Output that cannot be stored (a full disk behind `> file`) is an error.
 */
export function watchOutput(out: Writable, err: Writable): Printed {
  let lost: unknown = null;
  out.on("error", (error) => void (readerLeft(error) || (lost = error)));
  // Nothing can be said on standard error about standard error.
  err.on("error", () => undefined);
  // A turn later, so that an error has been heard of: it is told after the callback.
  const drained = (stream: Writable) =>
    new Promise<void>((resolve) => (stream.writable ? stream.write("", () => setImmediate(resolve)) : setImmediate(resolve)));
  return {
    async whole(code) {
      await drained(out);
      if (lost !== null)
        err.write(
          `refit-sidecar: the output could not be written (${codeOf(lost) || String(lost)}); free space where it goes, or send it elsewhere [CLI_OUTPUT_LOST]\n`,
        );
      await drained(err);
      return lost === null || code !== exitCode.ok ? code : exitCode.failed;
    },
  };
}

/** One line on standard output, waited for: many long reports do not pile up in memory before a slow reader. */
export function printLine(line: string): Promise<void> {
  return new Promise((resolve) => (process.stdout.writable ? process.stdout.write(`${line}\n`, () => resolve()) : resolve()));
}
