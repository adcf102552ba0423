import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import type { Command } from "commander";
import { readDiscovery } from "../client/index.ts";
import { Failure } from "../failure/index.ts";
import { isAlive } from "../process-alive.ts";
import { originOf, planUpdate } from "../install/update/index.ts";
import { packageRoot } from "../package-root.ts";
import { exitCode } from "./exit.ts";
import { dataDirOf } from "./data-dir.ts";
import { sortStores } from "./update/stores.ts";

interface UpdateFlags {
  readonly from?: string;
  readonly dryRun?: boolean;
  readonly stores?: boolean;
  readonly dataDir?: string;
  readonly json?: boolean;
}

/** A package cannot be replaced under a running sidecar: Windows keeps its libraries open, and its stores are in use. */
async function mustBeIdle(dataDir: string): Promise<void> {
  const running = await readDiscovery(dataDir).catch(() => null);
  if (running === null || !isAlive(running.pid)) return;
  throw new Failure(
    "CLI_UPDATE_RUNNING",
    `expected no sidecar on this data folder, one runs (version ${running.version}, process ${running.pid}). Close the UIs that use it, run "refit-sidecar stop", and then this command again.`,
    { pid: running.pid },
  );
}

/** npm beside this Node, run by it: a `.cmd` file cannot be started without a shell. */
function npmCommand(): readonly string[] {
  const folder = dirname(process.execPath);
  const found = [
    join(folder, "node_modules", "npm", "bin", "npm-cli.js"),
    join(folder, "..", "lib", "node_modules", "npm", "bin", "npm-cli.js"),
  ].find((path) => existsSync(path));
  return found === undefined ? ["npm"] : [process.execPath, found];
}

function run([program = "", ...args]: readonly string[], cwd: string | null): void {
  const { status, error } = spawnSync(program, args, { stdio: ["ignore", 2, 2], ...(cwd === null ? {} : { cwd }) });
  if (status !== 0)
    throw new Failure(
      "CLI_UPDATE_FAILED",
      `expected the update to succeed; ${error === undefined ? `it ended with ${status}` : error.message}. Its messages are above; what was installed before may need "${[program, ...args].join(" ")}" once more.`,
      { status },
    );
}

/** The stores, sorted by the code that has just been installed. */
function sortByNewCode(dataDir: string): unknown {
  const { stdout, status } = spawnSync(
    process.execPath,
    [join(packageRoot, "bin", "refit-sidecar.mjs"), "update", "--stores", "--json", "--data-dir", dataDir],
    { encoding: "utf8", stdio: ["ignore", "pipe", 2] },
  );
  const answer = JSON.parse(stdout.trim().split("\n").at(-1) ?? "null") as { readonly version?: string; readonly stores?: unknown } | null;
  if (status !== 0 || answer === null)
    throw new Failure(
      "CLI_UPDATE_FAILED",
      'the new version is installed, and could not look at the data folder; run "refit-sidecar update --stores"',
      { status },
    );
  return answer;
}

export function addUpdate(program: Command, version: string, done: (code: number) => void): void {
  program
    .command("update")
    .description("replace this package by a newer one, in the way it was installed, and sort the data folder")
    .option("--from <file>", "package file of the same kind (.tgz, .whl); default: the newest of the registry")
    .option("--dry-run", "only say what would be run")
    .option("--stores", "only sort the data folder: keep what this version reads, remove the rest")
    .option("--data-dir <dir>", "data folder of the sidecar")
    .option("--json", "print one JSON line")
    .action(async (flags: UpdateFlags) => {
      const dataDir = dataDirOf(flags);
      if (flags.dryRun !== true) await mustBeIdle(dataDir);
      if (flags.stores === true) {
        const stores = await sortStores(dataDir);
        if (flags.json === true) console.log(JSON.stringify({ ok: true, version, stores }));
        else for (const row of stores) console.log(`${row.store.padEnd(9)} ${row.text}`);
        return done(exitCode.ok);
      }
      const origin = originOf(packageRoot, process.env);
      const plan = planUpdate(origin, flags.from === undefined ? null : resolve(flags.from), npmCommand());
      if (plan.command === null || flags.dryRun === true) {
        if (flags.json === true) console.log(JSON.stringify({ ok: true, version, origin: origin.kind, ...plan }));
        else console.log(plan.command === null ? plan.note : plan.command.join(" "));
        return done(exitCode.ok);
      }
      run(plan.command, plan.cwd);
      const after = sortByNewCode(dataDir) as {
        readonly version: string;
        readonly stores: readonly { readonly store: string; readonly text: string }[];
      };
      if (flags.json === true)
        console.log(JSON.stringify({ ok: true, from: version, version: after.version, origin: origin.kind, stores: after.stores }));
      else {
        console.log(
          `${version} → ${after.version}. A plugin that was linked follows; one that was copied needs "refit-sidecar install" again. Data folder:`,
        );
        for (const row of after.stores) console.log(`${row.store.padEnd(9)} ${row.text}`);
      }
      done(exitCode.ok);
    });
}
