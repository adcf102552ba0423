// The host's main thread: frames in, frames out.

import type { Worker } from "node:worker_threads";
import { FrameError, FrameReader } from "@refit-sidecar/protocol";
import { readGraphBundle, variantPath } from "./graph.ts";
import { hostFailure } from "./host-failure.ts";
import { createHost } from "./host.ts";
import { parseOptions } from "./options.ts";
import { Runner } from "./runner/runner.ts";
import { HostServer } from "./server.ts";

/** A library that takes longer than this to load comes from a disk that does not answer. */
const loadPatienceMs = 10_000;

/** Answers frames until stdin ends. `thread`: the step thread, which may still be loading. */
export function serve(thread: Worker): void {
  const options = parseOptions(process.argv.slice(2));
  const reader = new FrameReader();
  const runner = new Runner(thread);

  /**
   * Node waits for its threads when it exits, and a thread inside a long step cannot be interrupted: then the process ends itself the hard way.
   * A thread that is still loading is waited for, with a limit.
   */
  function leave(code: number): void {
    if (runner.pending > 0) process.kill(process.pid, "SIGKILL");
    void runner.loaded.then(() => process.exit(code));
    setTimeout(() => process.exit(code), loadPatienceMs);
  }

  /** Nobody waits for it: a graph that cannot be opened is reported to whoever loads it. */
  async function warm({ folder, variant }: (typeof options.warmGraphs)[number]): Promise<void> {
    const path = variantPath(await readGraphBundle(folder), variant);
    await runner.call("", "ready", { path, options: { provider: options.provider, threads: options.threads } });
  }
  for (const graph of options.warmGraphs)
    warm(graph).catch((error: unknown) => console.error(`a graph could not be opened ahead: ${String(error)}`));

  const server = new HostServer(createHost(options, runner), {
    write(parts) {
      process.stdout.cork();
      for (const part of parts) process.stdout.write(part);
      process.stdout.uncork();
    },
    // An empty write is called back after everything before it has left the process.
    end: () => process.stdout.write("", () => leave(0)),
  });

  // The sidecar is gone when stdout breaks; stdin ends at the same moment.
  process.stdout.on("error", () => leave(0));
  process.stdin.on("data", (chunk: Uint8Array) => {
    try {
      for (const frame of reader.push(chunk)) void server.receive(frame);
    } catch (error) {
      if (!(error instanceof FrameError)) throw error;
      // After bad bytes nobody knows where the next frame starts.
      process.stdin.destroy();
      server.fail(null, hostFailure("HOST_MALFORMED_FRAME", `${error.message}; this host ends now`, { frame: error.code }));
      process.stdout.write("", () => leave(1));
    }
  });
  process.stdin.on("end", () => {
    server.abandon();
    leave(0);
  });
  // Ctrl-C in a terminal reaches the whole group; the sidecar decides when its hosts end.
  process.on("SIGINT", () => undefined);
}
