import type { Command } from "commander";
import { openBase } from "../bake/index.ts";
import { Failure } from "../failure/index.ts";
import { exportGraph, hostPythons, runExport } from "../pipeline/index.ts";
import { ownStore } from "./cache.ts";
import { dataDirOf } from "./data-dir.ts";
import { exitCode } from "./exit.ts";
import { checkOutputFolder, checkpointInputs } from "./outputs.ts";

interface GraphFlags {
  readonly json?: boolean;
  readonly python?: string;
  readonly dataDir?: string;
  readonly engineStore?: string;
  readonly out?: string;
}

export function addGraph(program: Command, done: (code: number) => void): void {
  const graph = program.command("graph").description("weightless graphs of structures that are not shipped");
  graph
    .command("export <checkpoint>")
    .description("export the graph of a checkpoint's structure (header only, no network) with a Python that has torch, diffusers and onnx")
    .option("--python <file>", "Python to use (default: REFIT_PYTHON, then the installed torch host, then python3)")
    .option("--data-dir <dir>", "data folder of the sidecar that will use it")
    .option("--engine-store <dir>", "engine store to keep it in (default: engines in the data folder)")
    .option("--out <dir>", "write the bundle here instead of the store")
    .option("--json", "print one JSON object")
    .action(async (checkpoint: string, flags: GraphFlags) => {
      const inputs = await checkpointInputs("the checkpoint", checkpoint);
      if (flags.out !== undefined)
        await checkOutputFolder({
          out: flags.out,
          option: "--out",
          code: "CLI_ARGUMENTS",
          inputs,
          isOurs: (names) => names.includes("graph.json") && names.every((name) => name === "graph.json" || name.endsWith(".onnx")),
        });
      const base = await openBase(checkpoint, null);
      await base.close();
      const pythons = hostPythons(dataDirOf(flags), () => flags.python ?? process.env["REFIT_PYTHON"] ?? null);
      const python = pythons("torch") ?? { python: process.platform === "win32" ? "python" : "python3", paths: [] };
      const interrupted = new AbortController();
      process.once("SIGINT", () => interrupted.abort(new Failure("CLI_INTERRUPTED", "interrupted; nothing was kept", {})));
      const onLine = (line: string) => void process.stderr.write(`${line}\n`);
      let folder = flags.out;
      if (folder === undefined)
        ({ folder } = await exportGraph(await ownStore(flags), python, base.parameters, base.structure, onLine, interrupted.signal));
      else await runExport(python, base.parameters, folder, onLine, interrupted.signal);
      if (flags.json === true) console.log(JSON.stringify({ ok: true, family: base.family, structure: base.structure, folder }));
      else console.log(`graph of ${base.family}, structure ${base.structure.slice(0, 16)}: ${folder}`);
      done(exitCode.ok);
    });
}
