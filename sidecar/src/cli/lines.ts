import { createReadStream } from "node:fs";
import { StringDecoder } from "node:string_decoder";
import { setTimeout as delay } from "node:timers/promises";
import { Failure } from "../failure/index.ts";

/** From standard input lines may come one by one, each after the answer to the one before: what comes together is looked at together. */
const togetherMs = 50;

/** A job of a thousand adapters has fewer bytes; what is longer is no jobs file (a model, a device that never ends). */
const maxLineBytes = 4 << 20;

/** Takes a byte order mark off, and the end of a line as Windows writes it. */
const cleaned = (line: string): string => line.replace(/^\ufeff/, "").replace(/\r$/, "");

/**
 * Lines of a file ("-": standard input) in groups: all of a file, what has arrived of a stream. Throws Failure CLI_MERGE_JOB for a line that is longer than any, what
 * the system says of the file, and the reason of `signal`.
 */
export async function* lineGroups(path: string, signal: AbortSignal): AsyncGenerator<readonly string[]> {
  const stream = path === "-";
  const input = stream ? process.stdin : createReadStream(path);
  const arrived: string[] = [];
  const decoder = new StringDecoder("utf8");
  let rest = "";
  let ended = false;
  let failed: Error | null = null;
  let wake: () => void = () => undefined;
  const end = (error: Error | null): void => {
    failed ??= error;
    ended = true;
    wake();
  };
  input.on("data", (chunk: Buffer) => {
    const lines = (rest + decoder.write(chunk)).split("\n");
    rest = lines.pop() ?? "";
    arrived.push(...lines.map(cleaned));
    if (rest.length > maxLineBytes) {
      end(
        new Failure(
          "CLI_MERGE_JOB",
          `expected one JSON object a line; found a line of more than ${maxLineBytes >> 20} MB, which is no job`,
          {},
        ),
      );
      input.destroy();
    } else wake();
  });
  input.on("end", () => {
    rest += decoder.end();
    if (rest !== "") arrived.push(cleaned(rest));
    end(null);
  });
  input.on("error", end);
  signal.addEventListener("abort", () => end(signal.reason as Error));
  for (;;) {
    while (arrived.length === 0 && !ended) await new Promise<void>((resolve) => (wake = resolve));
    if (stream) await delay(togetherMs);
    else while (!ended) await new Promise<void>((resolve) => (wake = resolve));
    if (failed !== null) throw failed as Error;
    if (arrived.length === 0) return;
    yield arrived.splice(0);
  }
}
