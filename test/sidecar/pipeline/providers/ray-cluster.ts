// A Ray cluster of several nodes on this computer (bench/support/ray_cluster.py), for tests and as one would lose its parts.

import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

/** A Python with Ray and psutil; null: tests that need a cluster are skipped, and say so. */
export const rayPython = process.env["REFIT_TEST_RAY"] ?? null;
if (rayPython === null) console.warn("Ray is not tried: REFIT_TEST_RAY names no Python with Ray (pip install ray)");

export interface RayCluster {
  readonly address: string;
  /** `add`: a node more; `lose N`: the N-th node dies without a word; the rest stands in ray_cluster.py. */
  readonly do: (what: string) => Promise<void>;
  readonly close: () => Promise<void>;
}

/** `env`: further variables of head and nodes. */
export async function startCluster(nodes: number, cpus: number, gpus = 0, env: Readonly<Record<string, string>> = {}): Promise<RayCluster> {
  const script = fileURLToPath(new URL("../../../../bench/support/ray_cluster.py", import.meta.url));
  const child = spawn(rayPython ?? "python", [script, String(nodes), String(cpus), String(gpus)], {
    stdio: ["pipe", "pipe", "ignore"],
    env: { ...process.env, ...env },
  });
  const ended = new Promise((resolve) => child.once("exit", resolve));
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const answer = async (): Promise<{ address: string }> => {
    const { value, done } = await lines.next();
    if (done === true) throw new Error("the cluster ended");
    return JSON.parse(value as string) as { address: string };
  };
  const { address } = await answer();
  return {
    address,
    async do(what) {
      child.stdin.write(`${what}\n`);
      await answer();
    },
    async close() {
      child.stdin.end();
      await ended;
    },
  };
}

/** The process that started another: of a host that is its actor. */
export const parentOf = (pid: number): number => Number(readFileSync(`/proc/${pid}/stat`, "utf8").split(") ").at(-1)?.split(" ")[1]);
