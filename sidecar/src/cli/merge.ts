import { existsSync } from "node:fs";
import { basename } from "node:path";
import type { Command } from "commander";
import { familyNames } from "@refit-sidecar/protocol";
import { bake, lossText } from "../bake/index.ts";
import type { BakeJob, BakeOptions, BakeReport } from "../bake/index.ts";
import { Failure } from "../failure/index.ts";
import { readStrength } from "../terms/index.ts";
import { exitCode, failureText, untilInterrupted } from "./exit.ts";
import { lineGroups } from "./lines.ts";
import { printLine } from "./output.ts";
import { checkOutput, checkpointInputs, outputLedger } from "./outputs.ts";
import type { Input } from "./outputs.ts";
import { progressBar } from "./progress.ts";

const dtypes = ["keep", "f16", "bf16", "f32"] as const;
const modes = ["comfyui", "extended"] as const;
const roundings = ["nearest", "stochastic"] as const;

/** Raw fields of a job, from flags or from a line of a jobs file. */
interface JobFields {
  readonly base?: unknown;
  readonly adapter?: unknown;
  readonly out?: unknown;
  readonly family?: unknown;
  readonly dtype?: unknown;
  readonly mode?: unknown;
  readonly rounding?: unknown;
}

/**
 * "path:strength"; without a number after the last colon the whole text is the path and the strength 1 (Windows drives have colons too).
 * Throws CLI_MERGE_ARGUMENTS for a strength that cannot be used, or that is written in another way than `:0.8`.
 */
export function parseAdapter(text: string): { readonly path: string; readonly strength: number } {
  const match = /^(.+):([^:]*)$/s.exec(text);
  if (match === null) return { path: text, strength: 1 };
  const [, path = "", behind = ""] = match;
  const written = readStrength(behind, { comma: false, place: "after the colon" });
  if (written.is === "strength" && (existsSync(path) || !existsSync(text))) return { path, strength: written.strength };
  // A colon may belong to the file's own name; then there is such a file.
  if (existsSync(text) || (written.is === "text" && !existsSync(path))) return { path: text, strength: 1 };
  const reason = written.is === "refused" ? written.reason : `expected a strength behind ${basename(path)}, got ${JSON.stringify(behind)}`;
  throw new Failure("CLI_MERGE_ARGUMENTS", `${reason}; a strength is written ${basename(path)}:0.8`, {});
}

function textField(fields: JobFields, name: "base" | "out"): string {
  const value = fields[name];
  if (typeof value === "string" && value !== "") return value;
  throw new Failure(
    "CLI_MERGE_ARGUMENTS",
    `merge expects ${name === "base" ? "a base checkpoint (--base)" : "a file to write (--out)"}, got ${JSON.stringify(value) ?? "none"}`,
    {},
  );
}

function choice<Value extends string>(value: unknown, name: string, choices: readonly Value[]): Value | null {
  if (value === undefined || value === null) return null;
  const found = choices.find((candidate) => candidate === value);
  if (found !== undefined) return found;
  throw new Failure("CLI_MERGE_ARGUMENTS", `${name} expects one of ${choices.join(", ")}, got ${JSON.stringify(value)}`, {});
}

/** Checks the fields of one job. Throws CLI_MERGE_ARGUMENTS. */
export function parseJob(fields: JobFields): BakeJob {
  const list = fields.adapter === undefined ? [] : Array.isArray(fields.adapter) ? (fields.adapter as unknown[]) : [fields.adapter];
  const adapters = list.map((item) => {
    if (typeof item !== "string" || item === "")
      throw new Failure("CLI_MERGE_ARGUMENTS", `an adapter is a text "path:strength", got ${JSON.stringify(item)}`, {});
    return parseAdapter(item);
  });
  const base = textField(fields, "base");
  const out = textField(fields, "out");
  if (adapters.length === 0) throw new Failure("CLI_MERGE_ARGUMENTS", "merge expects at least one adapter (--adapter FILE[:strength])", {});
  return {
    base,
    out,
    adapters,
    family: choice(fields.family, "family", familyNames),
    dtype: choice(fields.dtype, "dtype", dtypes) ?? "keep",
    mode: choice(fields.mode, "mode", modes) ?? "comfyui",
    rounding: choice(fields.rounding, "rounding", roundings) ?? "nearest",
  };
}

/** The result of one job as it is printed with --json; `ok` is false when an adapter changed nothing, though the file was written as ComfyUI would have it. */
function resultOf(report: BakeReport): Record<string, unknown> {
  const problem = report.adapters.find((adapter) => adapter.problem !== null)?.problem ?? null;
  const every = <Key extends "used" | "ignored" | "failed">(key: Key) =>
    report.adapters.flatMap((adapter): readonly unknown[] => adapter[key]);
  return {
    ok: problem === null,
    ...(problem ? { error: problem } : {}),
    ...report,
    used: every("used"),
    ignored: every("ignored"),
    failed: every("failed"),
  };
}

function printReport(report: BakeReport): void {
  for (const adapter of report.adapters) {
    console.log(
      `${adapter.adapter} at ${adapter.strength}: ${adapter.used.length} keys used, ${adapter.ignored.length} ignored, ${adapter.failed.length} failed`,
    );
    for (const [reason, keys] of grouped([...adapter.failed, ...adapter.ignored]))
      console.log(`  ${keys.length} x ${reason} (${keys[0]}${keys.length > 1 ? ", …" : ""})`);
    if (adapter.loss !== null) for (const line of lossText(adapter.loss)) console.log(`  ${line}`);
    for (const warning of adapter.warnings) console.log(`  note: ${warning}`);
    if (adapter.nonFinite.length > 0)
      console.log(
        `  note: ${adapter.nonFinite.length} tensors hold NaN or infinity, first ${adapter.nonFinite[0]}; they were merged as ComfyUI merges them`,
      );
  }
  const overflowed = new Set(report.overflowed.map(({ parameter }) => parameter));
  for (const { parameter, values } of report.saturated.filter(({ parameter }) => !overflowed.has(parameter)))
    console.log(`  note: ${values} values of ${parameter} were cut to the largest fp8 number`);
  for (const { parameter, values, dtype } of report.overflowed)
    console.log(`  note: ${values} values of ${parameter} are not finite in ${dtype}: a lower strength, or --dtype f32, keeps them`);
  for (const { tensor, values } of report.baseNotFinite)
    console.log(
      `  note: ${values} values of ${tensor} are NaN or infinite in the base already, and in the output: a model with them draws black pictures`,
    );
  for (const { parameter, reason } of report.skipped) console.log(`  note: left out on ${parameter}: ${reason}`);
  console.log(
    `${report.merged} parameters merged (${report.family}), ${(report.sizeBytes / 1e6).toFixed(1)} MB written in ${(report.ms / 1000).toFixed(2)} s`,
  );
}

function grouped(entries: readonly { readonly key: string; readonly reason: string }[]): Map<string, string[]> {
  const groups = new Map<string, string[]>();
  for (const { key, reason } of entries) groups.set(reason, [...(groups.get(reason) ?? []), key]);
  return groups;
}

const code = "CLI_MERGE_ARGUMENTS";

async function inputsOf({ base, adapters }: BakeJob): Promise<readonly Input[]> {
  return [...(await checkpointInputs("the base", base)), ...adapters.map(({ path }) => ({ what: "an adapter", path }))];
}

const jobFields: readonly string[] = [
  "base",
  "adapter",
  "out",
  "family",
  "dtype",
  "mode",
  "rounding",
] satisfies readonly (keyof JobFields)[];

interface JobLine {
  readonly label: string;
  readonly fields: JobFields;
  /** The job, or why the line is none. */
  readonly job: BakeJob | Error;
}

function readLine(text: string, label: string, defaults: JobFields): JobLine {
  let fields: JobFields = {};
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value !== "object" || value === null || Array.isArray(value)) throw new SyntaxError(`found ${text.slice(0, 60)}`);
    fields = value;
    const unknown = Object.keys(fields).find((name) => !jobFields.includes(name));
    if (unknown !== undefined)
      throw new Failure(code, `a job has the fields ${jobFields.join(", ")}; found ${JSON.stringify(unknown.slice(0, 60))}`, {});
    return { label, fields, job: parseJob({ ...defaults, ...fields }) };
  } catch (error) {
    const cause =
      error instanceof SyntaxError ? new Failure("CLI_MERGE_JOB", `expected one JSON object a line: ${error.message}`, {}) : error;
    return { label, fields, job: cause instanceof Error ? cause : new Error(String(cause)) };
  }
}

async function runJobs(path: string, defaults: JobFields, signal: AbortSignal): Promise<number> {
  let failed = 0;
  let count = 0;
  const ledger = outputLedger(code);
  const own: readonly Input[] = path === "-" ? [] : [{ what: "the jobs file", path }];
  for await (const group of lineGroups(path, signal)) {
    const jobs: JobLine[] = [];
    for (const text of group) {
      count += 1;
      if (text.trim() === "") continue;
      const line = readLine(text, `line ${count}`, defaults);
      jobs.push(line);
      if (!(line.job instanceof Error)) await ledger.add(line.label, line.job.out, await inputsOf(line.job));
    }
    for (const { label, fields, job } of jobs) {
      signal.throwIfAborted();
      try {
        if (job instanceof Error) throw job;
        ledger.check(label);
        const result = resultOf(await merged(job, own, { signal }));
        if (result["ok"] !== true) failed += 1;
        await printLine(JSON.stringify(result));
      } catch (error) {
        if (signal.aborted) throw signal.reason;
        failed += 1;
        await printLine(
          JSON.stringify({ ...(JSON.parse(failureText(error, true)) as object), ...("out" in fields ? { out: fields.out } : {}) }),
        );
      }
    }
  }
  return failed === 0 ? exitCode.ok : exitCode.failed;
}

/** One job, after a look at where its output goes. */
async function merged(job: BakeJob, alsoRead: readonly Input[], options: BakeOptions = {}): Promise<BakeReport> {
  await checkOutput({ out: job.out, option: "--out", code, inputs: [...(await inputsOf(job)), ...alsoRead] });
  return bake(job, options);
}

const isEmptyList = (value: unknown): boolean => Array.isArray(value) && value.length === 0;

interface MergeFlags extends JobFields {
  readonly jobs?: string;
  readonly json?: boolean;
}

export function addMerge(program: Command, done: (code: number) => void): void {
  program
    .command("merge")
    .description("merge adapters into a checkpoint file, exactly as a refit would")
    .option("--base <file>", "checkpoint to merge into (a .safetensors file, or the .index.json of a sharded one)")
    .option(
      "--adapter <file[:strength]>",
      "adapter and strength (default 1); repeatable, order counts",
      (value: string, list: string[]) => [...list, value],
      [] as string[],
    )
    .option("--out <file>", "checkpoint to write; appears whole or not at all")
    .option("--family <name>", `say which family the base is of (${familyNames.join(", ")}) instead of detecting it`)
    .option("--dtype <dtype>", `dtype of the diffusion model's weights in the output: ${dtypes.join(", ")}`)
    .option("--mode <mode>", "comfyui: merge what ComfyUI merges; extended: also what it ignores")
    .option("--rounding <way>", "of weights that the file keeps quantised: nearest (default), or stochastic as ComfyUI rounds them")
    .option(
      "--jobs <file>",
      "JSON lines with base, adapter, out, family, dtype, mode, rounding; one JSON result a line, a failed job does not stop the rest; - reads stdin",
    )
    .option("--json", "print the report as one JSON object")
    .action(async (flags: MergeFlags) => {
      const json = flags.json === true;
      const { signal, release } = untilInterrupted();
      try {
        if (flags.jobs !== undefined) {
          const given = (["base", "adapter", "out"] as const).find((name) => flags[name] !== undefined && !isEmptyList(flags[name]));
          if (given !== undefined) throw new Failure(code, `with --jobs each line names its own ${given}; leave --${given} out`, {});
          const defaults = { family: flags.family, dtype: flags.dtype, mode: flags.mode, rounding: flags.rounding };
          return done(await runJobs(flags.jobs, defaults, signal));
        }
        const bar = json ? null : progressBar("merging");
        const report = await merged(parseJob(flags), [], {
          signal,
          ...(bar ? { onProgress: (doneBytes, totalBytes) => bar.update(doneBytes / totalBytes) } : {}),
        });
        bar?.stop();
        const result = resultOf(report);
        if (json) console.log(JSON.stringify(result));
        else printReport(report);
        const problem = report.adapters.find((adapter) => adapter.problem !== null)?.problem;
        if (problem && !json) console.error(`refit-sidecar: ${problem.message} [${problem.code}]`);
        done(result["ok"] === true ? exitCode.ok : exitCode.failed);
      } finally {
        release();
      }
    });
}
