import { resolve } from "node:path";
import type { Command } from "commander";
import { replaceFile } from "@refit-sidecar/native";
import { Failure } from "../failure/index.ts";
import { findGpus } from "../install/host/index.ts";
import { hostCommand, hostPythons } from "../pipeline/index.ts";
import { benchHost, systemFacts, withoutPaths } from "../selftest/index.ts";
import type { BenchRow } from "../selftest/index.ts";
import { codedText, exitCode } from "./exit.ts";
import { absent, hostChoices, kinds } from "./host-choices.ts";
import type { HostChoiceFlags } from "./host-choices.ts";
import { dataDirOf } from "./data-dir.ts";
import { checkOutput } from "./outputs.ts";

interface BenchFlags extends HostChoiceFlags {
  readonly json?: boolean;
  readonly dataDir?: string;
  readonly python?: string;
  readonly out?: string;
}

/** The file's form is that of bench/summary.py, which the benchmark page is generated from. Nothing in it tells whose computer it was. */
export interface BenchFile {
  readonly format: "refit-bench";
  readonly version: 1;
  readonly date: string;
  readonly command: string;
  readonly computer: Readonly<Record<string, string | number>>;
  readonly versions: Readonly<Record<string, string>>;
  readonly rows: readonly BenchRow[];
}

const shown = (row: BenchRow): string =>
  row.unit === "bytes"
    ? `${(row.p50 / 1e9).toFixed(2)} GB`
    : `p50 ${row.p50.toFixed(1)} ms${row.p95 === null ? "" : `, p95 ${row.p95.toFixed(1)} ms`} (n ${row.n})`;

async function run(version: string, flags: BenchFlags, say: (line: string) => void): Promise<BenchFile> {
  const { precision, repeats, size } = hostChoices(flags, 2);
  const pythons = hostPythons(dataDirOf(flags), () => flags.python ?? process.env["REFIT_PYTHON"] ?? null);
  const rows: BenchRow[] = [];
  const versions: Record<string, string> = { "refit-sidecar": version, node: process.versions.node };
  const { gpus, platform, processor, processors, memoryBytes } = systemFacts(await findGpus());
  const [card] = gpus;
  for (const kind of kinds) {
    if (flags.host !== "auto" && flags.host !== kind) continue;
    const why = absent(kind, pythons);
    if (why !== null) {
      if (flags.host === kind) throw new Failure("HOST_NOT_CONFIGURED", `the ${kind} host cannot be timed: ${why}`, { kind });
      say(`${kind}: left out, ${why}`);
      continue;
    }
    say(`${kind}:`);
    try {
      const onRow = (row: BenchRow) => say(`  ${row.phase.padEnd(10)} ${shown(row)}  ${row.how}`);
      const found = await benchHost({ command: hostCommand(kind, pythons), size, precision, repeats, onRow });
      rows.push(...found.rows);
      Object.assign(versions, found.versions);
    } catch (error) {
      // With one host named there is nothing else to write.
      if (flags.host === kind) throw error;
      say(`  left out: ${withoutPaths(codedText(error))}`);
    }
  }
  return {
    format: "refit-bench",
    version: 1,
    date: new Date().toISOString().slice(0, 10),
    command: `refit-sidecar bench --size ${flags.size} --host ${flags.host} --repeats ${repeats}`,
    computer: {
      system: platform,
      processor: withoutPaths(processor),
      cores: processors,
      memoryGiB: Math.round(memoryBytes / 2 ** 30),
      ...(card === undefined ? {} : { card: withoutPaths(card.name), driver: card.driver }),
    },
    versions,
    rows,
  };
}

/** `bench`: the times of this computer, as one file that can be sent. */
export function addBench(program: Command, version: string, done: (code: number) => void): void {
  program
    .command("bench")
    .description("time changes of LoRA, strength, stack and checkpoint, and a step, on this computer; write one file that can be sent")
    .option("--host <auto|onnxruntime|torch|tensorrt>", "host to time; auto times every one that is installed", "auto")
    .option("--precision <auto|fp32|fp16|bf16>", "weight dtype (auto: fp32 on a CPU, fp16 on a GPU)", "auto")
    .option(
      "--size <small|sd15|sdxl>",
      "model: the demo's, or one of real size with random weights (temporary files: sd15 4 GB, sdxl 11 GB)",
      "small",
    )
    .option("--repeats <number>", "repetitions behind a figure", "20")
    .option("--out <file>", "where the file is written (default: refit-bench.json in the current folder)")
    .option("--python <file>", "Python with the hosts' packages (default: REFIT_PYTHON, then the installed hosts)")
    .option("--data-dir <dir>", "data folder of the sidecar")
    .option("--json", "print the file's content as one JSON object too")
    .action(async (flags: BenchFlags) => {
      const out = resolve(flags.out ?? "refit-bench.json");
      await checkOutput({
        out,
        option: "--out",
        code: "CLI_ARGUMENTS",
        inputs: flags.python === undefined ? [] : [{ what: "the Python to use", path: flags.python }],
        replaces: { what: "benchmark", begins: '{\n "format": "refit-bench"' },
      });
      const file = await run(version, flags, (line) => void process.stderr.write(`${line}\n`));
      await replaceFile(out, (handle) => handle.writeFile(`${JSON.stringify(file, null, 1)}\n`));
      if (flags.json === true) console.log(JSON.stringify({ ok: true, ...file, out }));
      else
        console.log(
          `${file.rows.length} figures: ${out}\nThe file holds no paths, file names or names of yours; read it, then send it with the issue form "benchmark".`,
        );
      done(exitCode.ok);
    });
}
