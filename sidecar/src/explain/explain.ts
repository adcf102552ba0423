import { basename } from "node:path";
import { native } from "@refit-sidecar/native";
import type { Header } from "@refit-sidecar/native";
import { measureAdapter, openBase } from "../bake/index.ts";
import type { LossReport } from "../bake/index.ts";
import { checkShards, readNotes, summarize, wholeCheckpoint } from "../catalog/index.ts";
import type { AdapterSummary, CheckpointSummary, Family } from "../catalog/index.ts";
import { inspectAdapter } from "../delta/index.ts";
import type { AdapterInspection } from "../delta/index.ts";
import { joinedNotes } from "../storage/index.ts";

/** `files`: more than one for a sharded checkpoint, whose table or name was given. */
export type Explanation = { readonly file: string; readonly files: number; readonly sizeBytes: number } & (
  | { readonly kind: "adapter"; readonly summary: AdapterSummary; readonly adapter: AdapterInspection; readonly loss: LossReport | null }
  | { readonly kind: "checkpoint"; readonly summary: CheckpointSummary; readonly hints: Readonly<Record<string, string>> }
);

/** Metadata is shown cut: some files carry a training log of megabytes. */
const shownMetadata = 200;

/** Everything that a file's header says; no weights are read, only what describes quantised ones. `against` is a checkpoint to try an adapter's names on, and to merge it into in memory: how much of it, at `strength`, would survive in that file. Throws SafetensorsError, and what `wholeCheckpoint` and `checkShards` throw. */
export async function explain(
  path: string,
  against: string | null,
  { strength = 1, family = null }: { readonly strength?: number; readonly family?: Family | null } = {},
): Promise<Explanation> {
  const { files, table } = await wholeCheckpoint(path);
  const headers = await Promise.all(files.map((file) => native.readHeader(file)));
  checkShards(
    headers.map(({ entries }, index) => ({ name: basename(files[index] ?? ""), tensors: entries })),
    table?.places ?? null,
  );
  const header = wholeHeader(headers);
  const placed = files.length === 1 ? "adapter" : "checkpoint";
  const first = summarize(header.entries, header.metadata, placed);
  const notes = () => Promise.all(headers.map((own, index) => readNotes(files[index] ?? "", own)));
  const summary = first.kind === "checkpoint" ? summarize(header.entries, header.metadata, placed, joinedNotes(await notes())) : first;
  const common = { file: basename(path), files: files.length, sizeBytes: headers.reduce((sum, { stamp }) => sum + stamp.sizeBytes, 0) };
  if (summary.kind === "checkpoint") return { ...common, kind: "checkpoint", summary, hints: hintsOf(header) };
  const base = against === null ? null : await openBase(against, family);
  try {
    const adapter = inspectAdapter({ tensors: header.entries, metadata: header.metadata }, base ?? undefined);
    const fits = base !== null && adapter.kind === "adapter" && (adapter.against?.parameters.length ?? 0) > 0;
    return { ...common, kind: "adapter", summary, adapter, loss: fits ? await measureAdapter(base, { path, strength }) : null };
  } finally {
    await base?.close();
  }
}

/** Tensors of all shards; metadata of the last one, as the catalog takes it. */
function wholeHeader(headers: readonly Header[]): Pick<Header, "entries" | "metadata"> {
  const [only] = headers;
  if (only !== undefined && headers.length === 1) return only;
  return { entries: new Map(headers.flatMap(({ entries }) => [...entries])), metadata: headers.at(-1)?.metadata ?? {} };
}

function hintsOf({ metadata }: Pick<Header, "metadata">): Record<string, string> {
  return Object.fromEntries(Object.entries(metadata).map(([key, value]) => [key, value.slice(0, shownMetadata)]));
}
