// What pages show of adapters beyond the catalog: notes and pictures that lie beside a file, and what its layers do.

import { setImmediate as breath } from "node:timers/promises";
import { native } from "@refit-sidecar/native";
import type { AdapterEntry, Catalog } from "../../catalog/index.ts";
import type { MeasureService } from "../../delta/index.ts";
import { Failure } from "../../failure/index.ts";
import { adapterNotes, hasPreview, readPreview } from "../../library/index.ts";
import type { MergeMode } from "../../terms/index.ts";
import type { WireBackend } from "../../wire/index.ts";
import type { Resolver } from "../resolve/resolver.ts";

export interface LibraryParts {
  readonly catalog: Catalog;
  readonly resolver: Resolver;
  readonly measures: MeasureService;
  readonly mode: () => MergeMode;
}

const mostLayers = 20_000;

export function libraryAnswers(parts: LibraryParts): Pick<WireBackend, "catalog.notes" | "catalog.preview" | "adapter.layers"> {
  const { catalog, resolver } = parts;

  /** An adapter of a watched folder: beside a pushed one lies nothing. */
  function known(id: string): AdapterEntry | null {
    const entry = catalog.present(id);
    return entry?.kind === "adapter" && entry.folder !== null ? entry : null;
  }

  async function notesOf(entry: AdapterEntry) {
    const header = await native.readHeader(entry.path).catch(() => null);
    const shapes = [...(header?.entries.values() ?? [])].map(({ name, shape }) => [name, shape] as const);
    return { id: entry.id, ...(await adapterNotes(entry.path, header?.metadata ?? {}, shapes)), preview: await hasPreview(entry.path) };
  }

  /** The checkpoint that names the layers: the one that was asked for, else any of the adapter's family that can be used. */
  function namingCheckpoint(adapter: AdapterEntry, asked: string | undefined): string | null {
    if (asked !== undefined) return catalog.entry(asked).id;
    for (const entry of catalog.snapshot().entries.values())
      if (entry.kind === "checkpoint" && entry.problem === null && entry.structure !== null && entry.family === adapter.family)
        return entry.id;
    return null;
  }

  return {
    "catalog.notes": async ({ ids }, { signal }) => {
      const notes = [];
      for (const entry of ids.map(known)) {
        signal.throwIfAborted();
        if (entry !== null) notes.push(await notesOf(entry));
        // A page asks for thousands while others step.
        await breath();
      }
      return { notes };
    },
    "catalog.preview": async ({ id }) => {
      const entry = known(id);
      const found = entry === null ? null : await readPreview(entry.path);
      if (found === null) return { picture: null };
      const { type, width, height, bytes } = found;
      return { picture: { type, width, height, data: bytes.toString("base64") } };
    },
    "adapter.layers": async ({ id, checkpoint }, { signal }) => {
      const entry = catalog.entry(id);
      if (entry.kind !== "adapter")
        throw new Failure("CATALOG_ENTRY_UNKNOWN", "expected the id of an adapter, it is one of a checkpoint", { id });
      const naming = namingCheckpoint(entry, checkpoint);
      if (naming === null) return { checkpoint: null, layers: [], ignored: 0, failed: 0 };
      const delta = await resolver.delta(id, await resolver.checkpoint(naming), parts.mode(), signal);
      const layers = await parts.measures.layers(delta.path);
      const { ignored, failed } = delta.header.report;
      return { checkpoint: naming, layers: layers.slice(0, mostLayers), ignored: ignored.length, failed: failed.length };
    },
  };
}
