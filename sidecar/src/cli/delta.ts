import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import type { Command } from "commander";
import { native } from "@refit-sidecar/native";
import { openBase } from "../bake/index.ts";
import { ensureDelta, exportDelta } from "../delta/index.ts";
import { Failure } from "../failure/index.ts";
import { exitCode } from "./exit.ts";
import { parseAdapter } from "./merge.ts";
import { checkOutput, checkpointInputs } from "./outputs.ts";

interface ExportFlags {
  readonly adapter: string;
  readonly base: string;
  readonly out: string;
  readonly mode: string;
  readonly json?: boolean;
}

async function exportOne(flags: ExportFlags): Promise<Record<string, unknown>> {
  if (flags.mode !== "comfyui" && flags.mode !== "extended")
    throw new Failure("CLI_ARGUMENTS", `--mode expects comfyui or extended, got ${JSON.stringify(flags.mode)}`, {});
  const { path, strength } = parseAdapter(flags.adapter);
  const inputs = [...(await checkpointInputs("the base", flags.base)), { what: "the adapter", path }];
  await checkOutput({ out: flags.out, option: "--out", code: "CLI_ARGUMENTS", inputs });
  const base = await openBase(flags.base, null);
  const folder = await mkdtemp(join(tmpdir(), "refit-delta-"));
  try {
    const target = { family: base.family, structure: base.structure, parameters: base.parameters };
    const ready = await ensureDelta(
      { adapter: { path, sha256: await native.hashFile(path) }, target, mode: flags.mode, folder, base: base.source },
      native,
    );
    if (ready.header.problem !== null) throw new Failure(ready.header.problem.code, ready.header.problem.message, {});
    const baseHash = await native.hashFile(flags.base);
    const { fileBytes } = await exportDelta({
      delta: ready.path,
      out: flags.out,
      base: { name: basename(flags.base), sha256: baseHash },
      adapter: { name: basename(path) },
      strength,
    });
    const { used, ignored, failed } = ready.header.report;
    return {
      ok: true,
      out: flags.out,
      family: base.family,
      structure: base.structure,
      terms: ready.header.terms.length,
      size_bytes: fileBytes,
      strength,
      used: used.length,
      ignored,
      failed,
      non_finite: ready.nonFinite,
    };
  } finally {
    await base.close();
    await rm(folder, { recursive: true, force: true });
  }
}

export function addDelta(program: Command, done: (code: number) => void): void {
  const delta = program.command("delta").description("precomputed deltas as files, for offline work and sharing");
  delta
    .command("export")
    .description(
      "pack an adapter for a checkpoint's structure into one file; use it like any adapter (merge --adapter, or a watched folder)",
    )
    .requiredOption("--adapter <file[:strength]>", "adapter; the strength is written down as a recommendation, not baked in")
    .requiredOption("--base <file>", "checkpoint whose structure it is packed for")
    .requiredOption("--out <file>", "file to write, by custom ending in .trt_lora")
    .option("--mode <mode>", "comfyui or extended", "comfyui")
    .option("--json", "print one JSON object")
    .action(async (flags: ExportFlags) => {
      const result = await exportOne(flags);
      if (flags.json === true) console.log(JSON.stringify(result));
      else
        console.log(
          `${String(result["terms"])} terms for ${String(result["family"])} written to ${flags.out} (${(Number(result["size_bytes"]) / 1e6).toFixed(1)} MB)`,
        );
      done(exitCode.ok);
    });
}
