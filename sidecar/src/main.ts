// The command line. In: arguments. Out: an exit code; results on stdout, everything else on stderr. Each command has a file in cli/.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Command, CommanderError } from "commander";
import { addEngine } from "./cli/engine.ts";
import { exitCode, exitCodeOf, failureText } from "./cli/exit.ts";
import { addCache } from "./cli/cache.ts";
import { addDelta } from "./cli/delta.ts";
import { addDemo } from "./cli/demo.ts";
import { addError } from "./cli/error.ts";
import { addDoctor } from "./cli/doctor.ts";
import { addGraph } from "./cli/graph.ts";
import { addHost } from "./cli/host.ts";
import { addBundle } from "./cli/bundle.ts";
import { addInspect } from "./cli/inspect.ts";
import { addInstall } from "./cli/install.ts";
import { addMerge } from "./cli/merge.ts";
import { watchOutput } from "./cli/output.ts";
import { addRestart } from "./cli/restart.ts";
import { addSelftest } from "./cli/selftest.ts";
import { addBench } from "./cli/bench.ts";
import { addServe } from "./cli/serve.ts";
import { addState } from "./cli/state.ts";
import { addStop } from "./cli/stop.ts";
import { addTop } from "./cli/top.ts";
import { addUpdate } from "./cli/update.ts";
import { packageRoot } from "./package-root.ts";

export const version = (JSON.parse(readFileSync(join(packageRoot, "package.json"), "utf8")) as { version: string }).version;

/** One command as a process runs it: returns its exit code when all of its output has been taken. */
export async function run(args: readonly string[]): Promise<number> {
  const printed = watchOutput(process.stdout, process.stderr);
  return printed.whole(
    await main(args).catch((error: unknown) => {
      console.error(failureText(error, false));
      return exitCodeOf(error);
    }),
  );
}

/** Runs one command and returns its exit code (docs/operate/cli.md). */
export async function main(args: readonly string[]): Promise<number> {
  let code: number = exitCode.ok;
  const done = (value: number) => void (code = value);
  const program = new Command("refit-sidecar")
    .description("LoRAs and checkpoints on compiled engines, without rebuilds")
    .version(version)
    .exitOverride()
    .showHelpAfterError("(run with --help for the options)");
  addDemo(program, done);
  addServe(program, version, done);
  addInspect(program, done);
  addMerge(program, done);
  addDelta(program, done);
  addGraph(program, done);
  addCache(program, done);
  addEngine(program, done);
  addState(program, version, done);
  addStop(program, done);
  addRestart(program, done);
  addTop(program, done);
  addBundle(program, done);
  addDoctor(program, done);
  addHost(program, done);
  addError(program, done);
  addSelftest(program, version, done);
  addBench(program, version, done);
  addInstall(program, done);
  addUpdate(program, version, done);
  try {
    await program.parseAsync([...args], { from: "user" });
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? exitCode.ok : exitCode.usage;
    throw error;
  }
  return code;
}
