import { basename } from "node:path";
import { native } from "@refit-sidecar/native";
import type { Header } from "@refit-sidecar/native";
import { openBase } from "../bake/index.ts";
import { readNotes, summarize } from "../catalog/index.ts";
import type { AdapterSummary, CheckpointSummary } from "../catalog/index.ts";
import { inspectAdapter } from "../delta/index.ts";
import type { AdapterInspection } from "../delta/index.ts";

export type Explanation = { readonly file: string; readonly sizeBytes: number } & (
  | { readonly kind: "adapter"; readonly summary: AdapterSummary; readonly adapter: AdapterInspection }
  | { readonly kind: "checkpoint"; readonly summary: CheckpointSummary; readonly hints: Readonly<Record<string, string>> }
);

/** Metadata is shown cut: some files carry a training log of megabytes. */
const shownMetadata = 200;

/** Everything that a file's header says; no weights are read, only what describes quantised ones. `against` is a checkpoint to try an adapter's names on. Throws SafetensorsError. */
export async function explain(path: string, against: string | null): Promise<Explanation> {
  const header = await native.readHeader(path);
  const first = summarize(header.entries, header.metadata, "adapter");
  const summary = first.kind === "checkpoint" ? summarize(header.entries, header.metadata, "adapter", await readNotes(path, header)) : first;
  const common = { file: basename(path), sizeBytes: header.stamp.sizeBytes };
  if (summary.kind === "checkpoint") return { ...common, kind: "checkpoint", summary, hints: hintsOf(header) };
  const base = against === null ? null : await openBase(against, null);
  try {
    const adapter = inspectAdapter({ tensors: header.entries, metadata: header.metadata }, base ?? undefined);
    return { ...common, kind: "adapter", summary, adapter };
  } finally {
    await base?.close();
  }
}

function hintsOf({ metadata }: Header): Record<string, string> {
  return Object.fromEntries(Object.entries(metadata).map(([key, value]) => [key, value.slice(0, shownMetadata)]));
}
