import { resolve } from "node:path";
import type { Command } from "commander";
import { replaceFile } from "@refit-sidecar/native";
import { Failure } from "../failure/index.ts";
import { look } from "../install/index.ts";
import { findGpus } from "../install/host/index.ts";
import { hostCommand, hostPythons } from "../pipeline/index.ts";
import { checkHost, checkUi, reportMarkdown, systemFacts } from "../selftest/index.ts";
import type { HostReport, Row, SelftestReport } from "../selftest/index.ts";
import { exitCode } from "./exit.ts";
import { absent, hostChoices, kinds } from "./host-choices.ts";
import type { HostChoiceFlags } from "./host-choices.ts";
import { dataDirOf } from "./data-dir.ts";
import { pluginFolder } from "./install.ts";
import { checkOutput } from "./outputs.ts";

interface SelftestFlags extends HostChoiceFlags {
  readonly json?: boolean;
  readonly dataDir?: string;
  readonly python?: string;
  readonly out?: string;
  readonly webui?: string;
}

const marks = { pass: "pass", fail: "FAIL", skip: "skip" } as const;

const leftOut = (host: string, why: string): HostReport => ({
  host,
  about: null,
  precision: "",
  tier: null,
  ok: true,
  rows: [{ id: "installed", title: "the host is installed", status: "skip", detail: why, figures: {}, firstOnHardware: false }],
});

const rowLine = (row: Row): string => `  ${marks[row.status]}  ${row.title}: ${row.detail}`;

/** The plugin inside a web UI of the user's, in place of the hosts. */
async function runUi(folder: string, flags: SelftestFlags, say: (line: string) => void): Promise<HostReport> {
  const { ui, uiFolder, python } = look(folder);
  if (ui === null || ui === "comfyui")
    throw new Failure("INSTALL_UI_UNKNOWN", "--webui expects the folder of A1111, Forge, reForge or Forge Neo; this is none of them.", {});
  // The check runs in the UI's folder.
  const runs = flags.python === undefined ? python : /[\\/]/.test(flags.python) ? resolve(flags.python) : flags.python;
  if (runs === null)
    throw new Failure(
      "SELFTEST_UI",
      "expected the UI's Python in its folder; found none. Name the Python that starts the UI with --python.",
      {},
    );
  return checkUi({ uiFolder, python: runs, plugin: pluginFolder(), onRow: (row) => say(rowLine(row)) });
}

async function runHosts(flags: SelftestFlags, say: (line: string) => void): Promise<HostReport[]> {
  const { precision, repeats, size } = hostChoices(flags, 1);
  const pythons = hostPythons(dataDirOf(flags), () => flags.python ?? process.env["REFIT_PYTHON"] ?? null);
  const hosts: HostReport[] = [];
  for (const kind of kinds) {
    if (flags.host !== "auto" && flags.host !== kind) continue;
    const why = absent(kind, pythons);
    if (why !== null && flags.host === kind)
      throw new Failure("HOST_NOT_CONFIGURED", `the ${kind} host cannot be tested: ${why}`, { kind });
    say(`${kind}${why === null ? "" : `: left out, ${why}`}`);
    const onRow = (row: Row) => say(rowLine(row));
    hosts.push(
      why === null ? await checkHost({ command: hostCommand(kind, pythons), precision, onRow, repeats, size }) : leftOut(kind, why),
    );
  }
  return hosts;
}

async function run(version: string, flags: SelftestFlags, say: (line: string) => void): Promise<SelftestReport> {
  const hosts = flags.webui === undefined ? await runHosts(flags, say) : [await runUi(flags.webui, flags, say)];
  return {
    formatVersion: 1,
    version,
    madeAt: new Date().toISOString(),
    system: systemFacts(await findGpus()),
    hosts,
    ok: hosts.every(({ ok }) => ok),
  };
}

/** `selftest`: what the hosts do on this computer, as one file that can be sent. */
export function addSelftest(program: Command, version: string, done: (code: number) => void): void {
  program
    .command("selftest")
    .description("check the engine hosts on this computer with a small model and write a one-file report")
    .option("--host <auto|onnxruntime|torch|tensorrt>", "host to check; auto checks every one that is installed", "auto")
    .option("--precision <auto|fp32|fp16|bf16>", "weight dtype (auto: fp32 on a CPU, fp16 on a GPU)", "auto")
    .option(
      "--size <small|sd15|sdxl>",
      "time a model of real size too, with random weights (temporary files: sd15 4 GB, sdxl 11 GB)",
      "small",
    )
    .option("--repeats <number>", "repetitions behind a time", "20")
    .option(
      "--webui <dir>",
      "check the plugin inside this A1111, Forge, reForge or Forge Neo instead, in its own Python; the UI is not started",
    )
    .option("--out <file>", "where the report is written (default: refit-selftest.md in the current folder)")
    .option("--python <file>", "Python with the hosts' packages (default: REFIT_PYTHON, then the installed hosts)")
    .option("--data-dir <dir>", "data folder of the sidecar")
    .option("--json", "print the report as one JSON object too")
    .action(async (flags: SelftestFlags) => {
      const out = resolve(flags.out ?? "refit-selftest.md");
      await checkOutput({
        out,
        option: "--out",
        code: "CLI_ARGUMENTS",
        inputs: flags.python === undefined ? [] : [{ what: "the Python to use", path: flags.python }],
        replaces: { what: "report of a self-test", begins: "# Refit Sidecar self-test" },
      });
      const report = await run(version, flags, (line) => void process.stderr.write(`${line}\n`));
      await replaceFile(out, (handle) => handle.writeFile(reportMarkdown(report)));
      if (flags.json === true) console.log(JSON.stringify({ ...report, out }));
      else
        console.log(
          `${report.ok ? "passed" : "FAILED"}: ${out}\nThe file holds no paths, file names or tokens of yours; read it, then send it.`,
        );
      done(report.ok ? exitCode.ok : exitCode.failed);
    });
}
