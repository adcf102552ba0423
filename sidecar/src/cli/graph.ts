import { join } from "node:path";
import type { Command } from "commander";
import { openBase } from "../bake/index.ts";
import { Failure } from "../failure/index.ts";
import { runExport } from "../pipeline/index.ts";
import { exitCode, exitCodeOf, failureText } from "./exit.ts";
import { defaultDataDir } from "./serve.ts";

interface GraphFlags {
  readonly json?: boolean;
  readonly python?: string;
  readonly dataDir?: string;
  readonly out?: string;
}

export function addGraph(program: Command, done: (code: number) => void): void {
  const graph = program.command("graph").description("weightless graphs of structures that are not shipped");
  graph
    .command("export <checkpoint>")
    .description("export the graph of a checkpoint's structure (header only, no network) with a Python that has torch, diffusers and onnx")
    .option("--python <file>", "Python to use (default: REFIT_PYTHON, then python3)")
    .option("--data-dir <dir>", "data folder of the sidecar that will use it")
    .option("--out <dir>", "write the bundle here instead of the data folder")
    .option("--json", "print one JSON object")
    .action(async (checkpoint: string, flags: GraphFlags) => {
      try {
        const base = await openBase(checkpoint, null);
        await base.close();
        const python = flags.python ?? process.env["REFIT_PYTHON"] ?? (process.platform === "win32" ? "python" : "python3");
        const folder = flags.out ?? join(flags.dataDir ?? process.env["REFIT_DATA_DIR"] ?? defaultDataDir(), "graphs", base.structure.slice(0, 16));
        const interrupted = new AbortController();
        process.once("SIGINT", () => interrupted.abort(new Failure("CLI_INTERRUPTED", "interrupted; nothing was kept", {})));
        const result = await runExport(python, checkpoint, folder, (line) => void process.stderr.write(`${line}\n`), interrupted.signal);
        if (flags.json === true) console.log(JSON.stringify(result));
        else console.log(`graph of ${base.family}, structure ${base.structure.slice(0, 16)}: ${folder}`);
        done(exitCode.ok);
      } catch (error) {
        if (flags.json === true) console.log(failureText(error, true));
        else console.error(failureText(error, false));
        done(exitCodeOf(error));
      }
    });
}
