// The command line. In: arguments. Out: an exit code; results on stdout, everything else on stderr. Each command has a file in cli/.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Command, CommanderError } from "commander";
import { exitCode, told } from "./cli/exit.ts";
import { watchOutput } from "./cli/output.ts";
import { packageRoot } from "./package-root.ts";

export const version = (JSON.parse(readFileSync(join(packageRoot, "package.json"), "utf8")) as { version: string }).version;

type Add = (program: Command, done: (code: number) => void) => void;

/** Each command in its own file, which is read when that command is given: all of them together take half a second. In the order of the help. */
const commands: Readonly<Record<string, () => Promise<Add>>> = {
  demo: async () => (await import("./cli/demo.ts")).addDemo,
  serve: async () => withVersion((await import("./cli/serve.ts")).addServe),
  inspect: async () => (await import("./cli/inspect.ts")).addInspect,
  merge: async () => (await import("./cli/merge.ts")).addMerge,
  delta: async () => (await import("./cli/delta.ts")).addDelta,
  graph: async () => (await import("./cli/graph.ts")).addGraph,
  cache: async () => (await import("./cli/cache.ts")).addCache,
  engine: async () => (await import("./cli/engine.ts")).addEngine,
  state: async () => withVersion((await import("./cli/state.ts")).addState),
  stop: async () => (await import("./cli/stop.ts")).addStop,
  restart: async () => (await import("./cli/restart.ts")).addRestart,
  top: async () => (await import("./cli/top.ts")).addTop,
  bundle: async () => (await import("./cli/bundle.ts")).addBundle,
  doctor: async () => (await import("./cli/doctor.ts")).addDoctor,
  host: async () => (await import("./cli/host.ts")).addHost,
  error: async () => (await import("./cli/error.ts")).addError,
  selftest: async () => withVersion((await import("./cli/selftest.ts")).addSelftest),
  bench: async () => withVersion((await import("./cli/bench.ts")).addBench),
  install: async () => (await import("./cli/install.ts")).addInstall,
  update: async () => withVersion((await import("./cli/update.ts")).addUpdate),
};

function withVersion(add: (program: Command, version: string, done: (code: number) => void) => void): Add {
  return (program, done) => add(program, version, done);
}

/** One command as a process runs it: returns its exit code when all of its output has been taken. */
export async function run(args: readonly string[]): Promise<number> {
  const printed = watchOutput(process.stdout, process.stderr);
  return printed.whole(await main(args));
}

/** Runs one command, says what it failed with, and returns its exit code (docs/operate/cli.md). */
export async function main(args: readonly string[]): Promise<number> {
  let code: number = exitCode.ok;
  let json = false;
  const done = (value: number) => void (code = value);
  const program = new Command("refit-sidecar")
    .description("LoRAs and checkpoints on compiled engines, without rebuilds")
    .version(version)
    .exitOverride()
    .showHelpAfterError("(run with --help for the options)")
    .hook("preAction", (_, command) => void (json = command.opts()["json"] === true));
  const [first = ""] = args;
  const wanted = Object.hasOwn(commands, first) ? [commands[first]] : Object.values(commands);
  try {
    for (const add of await Promise.all(wanted.map((load) => load?.()))) add?.(program, done);
    await program.parseAsync([...args], { from: "user" });
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? exitCode.ok : exitCode.usage;
    return told(error, json);
  }
  return code;
}
