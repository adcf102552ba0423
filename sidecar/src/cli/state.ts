import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { replaceFile } from "../files/index.ts";
import type { WireParams, WireResult } from "@refit-sidecar/protocol";
import type { Command } from "commander";
import { z } from "zod";
import { connect, readDiscovery } from "../client/index.ts";
import type { Client } from "../client/index.ts";
import { codeFrom, Failure } from "../failure/index.ts";
import { readLastUsed } from "../pipeline/index.ts";
import { ownStore } from "./cache.ts";
import { dataDirOf } from "./data-dir.ts";
import { codedText, exitCode } from "./exit.ts";
import { checkOutput, folderInputs } from "./outputs.ts";

// Files are named by content, so that the state means the same on a computer whose folders lie elsewhere; names are for people, and for files that are not hashed yet.
const named = z.object({ name: z.string(), sha256: z.string().nullable() });
const stackState = z.object({
  /** An engine held it when it was exported; else it was used recently. */
  live: z.boolean(),
  checkpoint: named.extend({ structure: z.string().nullable(), proof: z.enum(["full", "sampled"]).nullable() }),
  stack: z.array(named.extend({ strength: z.number() })),
  host: z.string(),
  precision: z.string(),
  mode: z.enum(["comfyui", "extended"]),
  residuals: z.boolean(),
});
const stateFile = z.object({
  format: z.literal("refit-sidecar state"),
  version: z.literal(1),
  sidecar: z.string(),
  createdAt: z.string(),
  /** The newest first. */
  stacks: z.array(stackState),
  /** Entries of the engine store that stay whatever the space. */
  pinned: z.array(z.string()),
});

export type StackState = z.infer<typeof stackState>;
export type StateFile = z.infer<typeof stateFile>;

type Entry = WireResult<"catalog.list">["entries"][number];

interface StateFlags {
  readonly dataDir?: string;
  readonly json?: boolean;
}

/** Every entry, page by page. */
export async function wholeCatalog(client: Client): Promise<Entry[]> {
  const entries: Entry[] = [];
  for (let after: string | null | undefined; after !== null;) {
    const { result } = await client.call("catalog.list", { limit: 1000, ...(after === undefined ? {} : { after }) });
    entries.push(...result.entries);
    after = result.next;
  }
  return entries;
}

/** What engines hold now, then what was used recently, each once. */
async function exportState(client: Client, dataDir: string, version: string, pinned: readonly string[]): Promise<StateFile> {
  const entries = await wholeCatalog(client);
  const entryOf = (reference: string) => entries.find(({ id, sha256 }) => id === reference || sha256 === reference);
  const checkpointOf = (id: string): StackState["checkpoint"] | null => {
    const found = entryOf(id);
    return found === undefined ? null : { name: found.name, sha256: found.sha256, structure: found.structure, proof: found.proof };
  };
  const adapterOf = (reference: string, strength: number): StackState["stack"][number] => {
    const found = entryOf(reference);
    return { name: found?.name ?? "", sha256: found?.sha256 ?? (/^[0-9a-f]{64}$/.test(reference) ? reference : null), strength };
  };
  const stacks: StackState[] = [];
  const add = (state: StackState): void => {
    const key = ({ checkpoint, stack, host, precision, mode, residuals }: StackState) =>
      JSON.stringify([
        checkpoint.sha256 ?? checkpoint.name,
        stack.map(({ sha256, name, strength }) => [sha256 ?? name, strength]),
        host,
        precision,
        mode,
        residuals,
      ]);
    if (!stacks.some((other) => key(other) === key(state))) stacks.push(state);
  };
  const recent = (await readLastUsed(join(dataDir, "last-used.json")))?.recent ?? [];
  for (const { weights, host, precision } of (await client.call("engine.list", {})).result.engines) {
    const checkpoint = weights === null ? null : checkpointOf(weights.checkpoint);
    if (weights === null || checkpoint === null) continue;
    const stack = weights.stack.map(({ sha256, strength }) => adapterOf(sha256, strength));
    // An engine does not know how its weights were asked for; whoever asked last does.
    const asked = recent.find((request) => request.checkpoint === weights.checkpoint && request.stack.length === stack.length);
    add({ live: true, checkpoint, stack, host, precision, mode: asked?.mode ?? "comfyui", residuals: asked?.residuals ?? false });
  }
  for (const request of recent) {
    const checkpoint = checkpointOf(request.checkpoint);
    if (checkpoint !== null)
      add({
        live: false,
        checkpoint,
        stack: request.stack.map(({ adapter, strength }) => adapterOf(adapter, strength)),
        host: request.host,
        precision: request.precision,
        mode: request.mode,
        residuals: request.residuals,
      });
  }
  return { format: "refit-sidecar state", version: 1, sidecar: version, createdAt: new Date().toISOString(), stacks, pinned: [...pinned] };
}

/** Throws CLI_STATE_FILE. */
async function readState(path: string): Promise<StateFile> {
  const text = await readFile(path, "utf8").catch((cause: unknown) => {
    throw new Failure("CLI_STATE_FILE", `expected a state that "refit-sidecar state export" wrote; ${path} cannot be read`, {}, { cause });
  });
  let value: unknown = null;
  try {
    value = JSON.parse(text);
  } catch {
    // Said below, with what was expected.
  }
  const parsed = stateFile.safeParse(value);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw new Failure(
    "CLI_STATE_FILE",
    `expected a state that "refit-sidecar state export" wrote; at ${issue?.path.join(".") || "the top"}: ${issue?.message ?? "not JSON"}`,
    {},
  );
}

export interface ImportedStack {
  readonly checkpoint: string;
  readonly adapters: number;
  readonly ok: boolean;
  readonly problem: string | null;
}

/** Brings the sidecar to the state: every stack is warmed, the newest last, so that engines end as they were. One that cannot be does not stop the rest. */
async function importState(
  client: Client,
  state: StateFile,
  onStack: (done: ImportedStack) => void = () => undefined,
): Promise<ImportedStack[]> {
  const entries = await wholeCatalog(client);
  const done: ImportedStack[] = [];
  for (const wanted of state.stacks.toReversed()) {
    const row = { checkpoint: wanted.checkpoint.name, adapters: wanted.stack.length };
    let result: ImportedStack;
    try {
      await warmed(client, requestOf(entries, wanted));
      result = { ...row, ok: true, problem: null };
    } catch (error) {
      result = { ...row, ok: false, problem: codedText(error) };
    }
    onStack(result);
    done.unshift(result);
  }
  return done;
}

function requestOf(
  entries: readonly Entry[],
  { checkpoint, stack, host, precision, mode, residuals }: StackState,
): WireParams<"engine.warm"> {
  const find = (kind: Entry["kind"], { name, sha256 }: { readonly name: string; readonly sha256: string | null }): Entry => {
    const usable = entries.filter((entry) => entry.kind === kind && entry.problem === null);
    const found =
      usable.find((entry) => sha256 !== null && entry.sha256 === sha256) ??
      usable.find((entry) => entry.name === name && (entry.sha256 === null || sha256 === null || entry.proof === "sampled"));
    if (found !== undefined) return found;
    const other = usable.some((entry) => entry.name === name) ? "; there is one by this name with other content" : "";
    throw new Failure(
      "CLI_STATE_MISSING",
      `expected the ${kind} ${name === "" ? (sha256 ?? "?") : name} in a watched folder${other}. Put the file there, or add its folder, and import again`,
      {},
    );
  };
  const own = find("checkpoint", checkpoint);
  if (checkpoint.structure !== null && own.structure !== checkpoint.structure)
    throw new Failure(
      "CLI_STATE_MISSING",
      `expected the checkpoint ${checkpoint.name} with the structure of the export, the one here has another`,
      {},
    );
  return {
    checkpoint: own.id,
    stack: stack.map((item) => ({ adapter: find("adapter", item).id, strength: item.strength })),
    precision: z.enum(["auto", "fp32", "fp16", "bf16", "fp8", "int8", "nvfp4"]).parse(precision),
    host: z.enum(["auto", "onnxruntime", "torch", "tensorrt"]).parse(host),
    mode,
    residuals,
  };
}

const pollMs = 50;

async function warmed(client: Client, request: WireParams<"engine.warm">): Promise<void> {
  const { job: id } = (await client.call("engine.warm", request)).result;
  for (;;) {
    const [job] = (await client.call("jobs.list", { ids: [id] })).result.jobs;
    if (job === undefined || job.state === "done") return;
    if (job.state === "failed" || job.state === "cancelled")
      throw new Failure(codeFrom(job.problem?.code, "JOB_CANCELLED"), job.problem?.message ?? "the warm-up was cancelled", {});
    await new Promise((resolve) => setTimeout(resolve, pollMs));
  }
}

export function addState(program: Command, version: string, done: (code: number) => void): void {
  const state = program.command("state").description("what a running sidecar holds and was used for: to move it, or to have it again");
  const sub = (words: string, description: string) =>
    state
      .command(words)
      .description(description)
      .option("--data-dir <dir>", "data folder of the sidecar")
      .option("--json", "print one JSON object");
  const run = async (
    flags: StateFlags,
    work: (
      client: Client,
      dataDir: string,
    ) => Promise<{ readonly ok: boolean; readonly json: Record<string, unknown>; readonly line: string }>,
  ) => {
    const dataDir = dataDirOf(flags);
    const client = await connect(await readDiscovery(dataDir), "refit-sidecar state");
    try {
      const { ok, json, line } = await work(client, dataDir);
      console.log(flags.json === true ? JSON.stringify({ ok, ...json }) : line);
      done(ok ? exitCode.ok : exitCode.failed);
    } finally {
      await client.close();
    }
  };
  sub("export <file>", "write engines' checkpoints, stacks and strengths, recently used stacks and pins to a file").action(
    (file: string, flags: StateFlags) =>
      run(flags, async (client, dataDir) => {
        await checkOutput({
          out: file,
          option: "the file of the export",
          code: "CLI_ARGUMENTS",
          inputs: await folderInputs("a file of the sidecar's data folder", dataDir),
          replaces: { what: "export of a state", begins: '{ "format": "refit-sidecar state"' },
        });
        const pinned = (await (await ownStore({ dataDir }, false)).list()).filter((info) => info.pinned).map(({ entry }) => entry);
        const exported = await exportState(client, dataDir, version, pinned);
        await replaceFile(file, (handle) => handle.writeFile(`${JSON.stringify(exported, null, 2)}\n`), { mode: 0o600 });
        return {
          ok: true,
          json: { file, stacks: exported.stacks.length, pinned: exported.pinned.length },
          line: `${exported.stacks.length} stacks and ${exported.pinned.length} pins written to ${file}`,
        };
      }),
  );
  sub("import <file>", "bring the running sidecar to an exported state").action((file: string, flags: StateFlags) =>
    run(flags, async (client, dataDir) => {
      const wanted = await readState(file);
      const stacks = await importState(client, wanted, ({ checkpoint, adapters, ok, problem }) =>
        console.error(`${ok ? "ready" : "FAILED"}  ${checkpoint} with ${adapters} adapters${problem === null ? "" : `: ${problem}`}`),
      );
      const store = await ownStore({ dataDir });
      const here = new Set((await store.list()).map(({ entry }) => entry));
      const pinned = wanted.pinned.filter((entry) => here.has(entry));
      for (const entry of pinned) await store.pin(entry, true);
      const failed = stacks.filter(({ ok }) => !ok).length;
      return {
        ok: failed === 0,
        json: { stacks, pinned: pinned.length, unknownPins: wanted.pinned.length - pinned.length },
        line: `${stacks.length - failed} of ${stacks.length} stacks ready, ${pinned.length} of ${wanted.pinned.length} engines pinned`,
      };
    }),
  );
}
