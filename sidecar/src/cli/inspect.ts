import type { Command } from "commander";
import { familyNames } from "@refit-sidecar/protocol";
import { lossText } from "../bake/index.ts";
import { explain } from "../explain/index.ts";
import type { Explanation } from "../explain/index.ts";
import type { Family } from "../catalog/types.ts";
import { Failure } from "../failure/index.ts";
import { exitCode } from "./exit.ts";

const listed = 10;

function rows(title: string, counts: Readonly<Record<string, number>>): string {
  const entries = Object.entries(counts);
  return entries.length === 0
    ? ""
    : `${title}: ${entries
        .slice(0, listed)
        .map(([name, count]) => `${name} x ${count}`)
        .join(", ")}${entries.length > listed ? ", …" : ""}`;
}

/** Families that the names and sizes of an adapter leave open, the more common one first. */
function familyText(found: Explanation): string | null {
  const candidates = found.kind === "checkpoint" ? [] : found.adapter.family.candidates;
  return candidates.length > 1 ? `${candidates.join(" or ")} (an adapter goes by the checkpoint that it is used with)` : null;
}

function lines(found: Explanation): string[] {
  const { family, evidence, problem } = found.summary;
  const head = [
    `${found.file}: ${found.kind}, ${(found.sizeBytes / 1e6).toFixed(1)} MB${found.files === 1 ? "" : ` in ${found.files} shards`}`,
    `family: ${familyText(found) ?? family ?? "unknown"}${found.kind === "checkpoint" && found.summary.variant ? ` (${found.summary.variant})` : ""}`,
    ...evidence.map((fact) => `  because of ${fact}`),
  ];
  if (problem !== null) head.push(`problem: ${problem.message} [${problem.code}]`);
  if (found.kind === "checkpoint") {
    const { structure, parameters, dtypes, format, keyPrefix } = found.summary;
    return [
      ...head,
      `structure: ${structure ?? "none"}`,
      `parameters: ${parameters} (${format ?? "unknown"} names${keyPrefix === "" ? "" : `, prefix ${keyPrefix}`})`,
      rows("dtypes", dtypes),
    ];
  }
  const { adapter } = found;
  head.push(
    rows("kinds", adapter.kinds),
    adapter.dora > 0 ? `with DoRA magnitudes: ${adapter.dora}` : "",
    rows("ranks", adapter.ranks),
    rows("not for the engine", adapter.foreign),
  );
  for (const [name, value] of Object.entries(adapter.hints)) head.push(`metadata ${name}: ${value}`);
  head.push(`layers: ${adapter.modules.length}; a refit writes about ${(adapter.refit.bytesF16 / 1e6).toFixed(0)} MB in fp16`);
  if (adapter.against !== null) {
    const { parameters, report } = adapter.against;
    head.push(
      `on this checkpoint: ${parameters.length} parameters touched, ${report.used.length} keys used, ${report.ignored.length} ignored, ${report.failed.length} failed`,
    );
    if (found.loss !== null) head.push(...lossText(found.loss));
    for (const { key, reason } of [...report.failed, ...report.ignored].slice(0, listed)) head.push(`  ${key}: ${reason}`);
  }
  return head;
}

function strengthOf(value: number): number {
  if (Number.isFinite(value)) return value;
  throw new Failure("CLI_INSPECT_ARGUMENTS", "--strength expects a number, as 0.8", {});
}

function familyOf(name: string | undefined): Family | null {
  if (name === undefined) return null;
  const found = familyNames.find((candidate) => candidate === name);
  if (found !== undefined) return found;
  throw new Failure("CLI_INSPECT_ARGUMENTS", `--family expects one of ${familyNames.join(", ")}, got ${JSON.stringify(name)}`, {});
}

export function addInspect(program: Command, done: (code: number) => void): void {
  program
    .command("inspect <file>")
    .description("explain an adapter or a checkpoint from its header")
    .option(
      "--base <file>",
      "checkpoint to try an adapter's names and shapes on; also says how much of the adapter a merge into it would keep",
    )
    .option("--family <name>", "say which family that checkpoint is of instead of detecting it")
    .option("--strength <number>", "strength for that (default 1)", Number)
    .option("--json", "print one JSON object")
    .action(
      async (
        file: string,
        flags: { readonly json?: boolean; readonly base?: string; readonly strength?: number; readonly family?: string },
      ) => {
        const found = await explain(file, flags.base ?? null, {
          strength: strengthOf(flags.strength ?? 1),
          family: familyOf(flags.family),
        });
        if (flags.json === true) console.log(JSON.stringify(jsonOf(found)));
        else for (const line of lines(found)) if (line !== "") console.log(line);
        done(found.summary.problem === null ? exitCode.ok : exitCode.failed);
      },
    );
}

/** Flat where scripts look first: kind, family, structure, layers, ignored keys. */
function jsonOf(found: Explanation): Record<string, unknown> {
  const { family, evidence, problem } = found.summary;
  const common = {
    ok: problem === null,
    file: found.file,
    files: found.files,
    kind: found.kind,
    family,
    evidence,
    problem,
    size_bytes: found.sizeBytes,
  };
  if (found.kind === "checkpoint") {
    const { structure, variant, parameters, dtypes, format, keyPrefix, config } = found.summary;
    return { ...common, structure, variant, parameters, dtypes, format, key_prefix: keyPrefix, config, metadata: found.hints };
  }
  const { adapter } = found;
  return {
    ...common,
    adapter_kind: adapter.kind,
    family: adapter.family.family,
    family_candidates: adapter.family.candidates,
    unsupported: adapter.family.unsupported,
    kinds: adapter.kinds,
    dora: adapter.dora,
    ranks: adapter.ranks,
    layers: adapter.modules,
    metadata: adapter.hints,
    refit_bytes_f16: adapter.refit.bytesF16,
    not_for_the_engine: adapter.foreign,
    touched: adapter.against?.parameters ?? null,
    loss: found.loss,
    ignored: adapter.against?.report.ignored ?? [],
    failed: adapter.against?.report.failed ?? [],
  };
}
