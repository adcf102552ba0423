import type { Command } from "commander";
import { findGpus } from "../install/host/index.ts";
import { hostPythons } from "../pipeline/index.ts";
import { readHardware } from "../selftest/index.ts";
import type { HardwareRow } from "../selftest/index.ts";
import { computerFindings } from "./doctor/computer.ts";
import { runningFindings } from "./doctor/running.ts";
import { gpuFinding, gpuHostFindings } from "./doctor/gpu-hosts.ts";
import { exitCode } from "./exit.ts";
import { dataDirOf } from "./data-dir.ts";

interface DoctorFlags {
  readonly json?: boolean;
  readonly python?: string;
  readonly dataDir?: string;
}

const hardwareLine = ({ host, what, hardware, software, ran }: HardwareRow): string =>
  `${ran ? "run    " : "NOT RUN"} ${host}: ${what}, on ${hardware}${software === "" ? "" : ` (${software})`}`;

export function addDoctor(program: Command, done: (code: number) => void): void {
  program
    .command("doctor")
    .description("what this computer can run, what is missing and how to get it")
    .option("--python <file>", "Python to look at for GPU hosts (default: REFIT_PYTHON, then the installed hosts)")
    .option("--data-dir <dir>", "data folder of the sidecar")
    .option("--json", "print one JSON object")
    .action(async (flags: DoctorFlags) => {
      const named = flags.python ?? process.env["REFIT_PYTHON"] ?? null;
      const dataDir = dataDirOf(flags);
      const gpus = await findGpus();
      const findings = [
        ...(await computerFindings(dataDir)),
        gpuFinding(gpus),
        ...(await gpuHostFindings(
          dataDir,
          hostPythons(dataDir, () => named),
          named !== null,
          gpus,
        )),
        ...(await runningFindings(dataDir)),
      ];
      const hardware = await readHardware();
      const ok = findings.every((finding) => finding.ok || finding.optional);
      if (flags.json === true) console.log(JSON.stringify({ ok, platform: `${process.platform}-${process.arch}`, findings, hardware }));
      else {
        for (const { name, ok: good, found, remedy, optional } of findings) {
          console.log(`${good ? "ok     " : optional ? "absent " : "MISSING"} ${name}: ${found}`);
          if (!good && remedy !== null) console.log(`        ${remedy}`);
        }
        console.log('\nWhat the project has run on which hardware ("refit-sidecar selftest" checks yours and writes a report to send):');
        for (const row of hardware) console.log(hardwareLine(row));
      }
      done(ok ? exitCode.ok : exitCode.failed);
    });
}
