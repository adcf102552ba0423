import { setTimeout as wait } from "node:timers/promises";
import type { Command } from "commander";
import { readDiscovery } from "../client/index.ts";
import type { Discovery } from "../client/index.ts";
import { Failure } from "../failure/index.ts";
import { isAlive } from "../process-alive.ts";
import { exitCode } from "./exit.ts";
import { dataDirOf } from "./data-dir.ts";

/** A sidecar answers at once; ending closes its engine hosts, which may be in the middle of a step. */
const answerMs = 5_000;
const endMs = 60_000;
const lookMs = 100;

interface StopFlags {
  readonly dataDir?: string;
  readonly json?: boolean;
}

/** Asks by the token of its own file, so that nobody else's process is ever ended. Works alike on every system: Windows has no signal that a program could answer. */
async function ask({ url, token, pid }: Discovery): Promise<void> {
  const status = await fetch(new URL("/stop", url), {
    method: "POST",
    headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
    body: "{}",
    redirect: "error",
    signal: AbortSignal.timeout(answerMs),
  }).then(
    (reply) => reply.status,
    () => null,
  );
  if (status === 200) return;
  if (status === null)
    throw new Failure(
      "CLI_STOP_NO_ANSWER",
      `expected the sidecar of this data folder to answer; nothing does at the address in sidecar.json. If process ${pid} is a sidecar that hangs, end it by hand; if it is another program, remove sidecar.json.`,
      { pid },
    );
  throw new Failure(
    "CLI_STOP_REFUSED",
    `expected the sidecar (process ${pid}) to end when asked; it is of a version that does not. End that process by hand.`,
    {
      pid,
      status,
    },
  );
}

/** Resolves when the process is gone. False: none ran. Throws Failure CLI_STOP_NO_ANSWER, CLI_STOP_REFUSED or CLI_STOP_LATE. */
export async function stopSidecar(dataDir: string, patienceMs = endMs): Promise<boolean> {
  const running = await readDiscovery(dataDir).catch((error: unknown) => {
    if (error instanceof Failure && error.code === "CLIENT_NOT_RUNNING") return null;
    throw error;
  });
  // A sidecar that was killed left its file; the next one replaces it.
  if (running === null || !isAlive(running.pid)) return false;
  await ask(running);
  for (const asked = performance.now(); isAlive(running.pid);) {
    if (performance.now() - asked > patienceMs)
      throw new Failure(
        "CLI_STOP_LATE",
        `expected the sidecar (process ${running.pid}) to end within ${patienceMs / 1000} s; it still runs. End that process by hand.`,
        {
          pid: running.pid,
        },
      );
    await wait(lookMs);
  }
  return true;
}

export function addStop(program: Command, done: (code: number) => void): void {
  program
    .command("stop")
    .description("end the sidecar that runs on a data folder, such as the one that a UI started")
    .option("--data-dir <dir>", "data folder of the sidecar")
    .option("--json", "print one JSON line")
    .action(async (flags: StopFlags) => {
      const stopped = await stopSidecar(dataDirOf(flags));
      if (flags.json === true) console.log(JSON.stringify({ ok: true, stopped }));
      else console.log(stopped ? "stopped" : "no sidecar runs on this data folder");
      done(exitCode.ok);
    });
}
