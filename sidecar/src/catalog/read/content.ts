// Reads what a unit's files hold. In: members that have settled. Out: content, or the problem that stands in the way. Never throws for a bad file.

import { basename } from "node:path";
import { SafetensorsError } from "@refit-sidecar/native";
import type { Header, TensorEntry } from "@refit-sidecar/native";
import type { FileKind } from "../../arrivals/types.ts";
import { sameRead } from "../../files/index.ts";
import type { Stamp } from "../../files/index.ts";
import { Failure } from "../../failure/index.ts";
import { joinedNotes, noNotes } from "../../storage/index.ts";
import type { StorageNotes } from "../../storage/index.ts";
import type { ContentFile, Reading } from "../reader.ts";
import { summarize } from "../summarize.ts";
import type { Summary } from "../summarize.ts";
import type { Problem } from "../types.ts";
import { readShardTable } from "./shard-table.ts";
import { readNotes } from "./stored-file.ts";
import { checkShards } from "./whole-checkpoint.ts";

/** A header that was read from the very file that arrivals reported. */
export function isHeaderOf(header: Header, stamp: Stamp): boolean {
  return sameRead(header.stamp, stamp);
}

export const fileChanging: Problem = {
  code: "CATALOG_FILE_CHANGING",
  message: "expected a file at rest; it is being written to. It can be used again when that has ended.",
};

/** Passing: says nothing lasting about the content, so it is not remembered. */
const passingCodes = new Set(["UNREADABLE", "FILE_CHANGED", "NOT_A_REGULAR_FILE"]);

export function problemOf(error: unknown): { readonly problem: Problem; readonly lasting: boolean } {
  if (error instanceof SafetensorsError) {
    if (error.code === "FILE_CHANGED") return { problem: fileChanging, lasting: false };
    return { problem: { code: `CATALOG_${error.code}`, message: error.message }, lasting: !passingCodes.has(error.code) };
  }
  if (error instanceof Failure) return { problem: { code: error.code, message: error.message }, lasting: true };
  const code = typeof error === "object" && error !== null && "code" in error ? String(error.code) : null;
  if (code === null) throw error;
  return {
    problem: {
      code: "CATALOG_UNREADABLE",
      message: `expected a readable file; the system answers ${code}. Check its permissions and the disk.`,
    },
    lasting: false,
  };
}

/** A summary that only carries a problem, for content that is known to be unusable. */
export function problemSummary(kind: FileKind, problem: Problem): Summary {
  if (kind === "adapter") return { kind, family: null, kinds: [], tensors: 0, evidence: [], problem };
  return {
    kind,
    family: null,
    variant: null,
    structure: null,
    keyPrefix: "",
    config: null,
    parameters: 0,
    dtypes: {},
    format: null,
    evidence: [],
    problem,
  };
}

/**
 * Strings cut out of a header keep the whole header in memory, because V8 makes slices of long strings share their parent. A copy through
 * JSON shares nothing.
 */
function detached(summary: Summary): Summary {
  return JSON.parse(JSON.stringify(summary)) as Summary;
}

/** A quantised checkpoint is summed up again with what its header leaves open; nothing else is read of any file. */
async function summarizeWithNotes(
  files: readonly ContentFile[],
  headers: readonly Header[],
  tensors: ReadonlyMap<string, TensorEntry>,
  metadata: Readonly<Record<string, string>>,
  placed: FileKind,
): Promise<Summary> {
  const summary = summarize(tensors, metadata, placed);
  if (summary.kind !== "checkpoint") return summary;
  const parts: StorageNotes[] = [];
  for (const [index, header] of headers.entries()) parts.push(await readNotes(files[index]?.path ?? "", header));
  return parts.every((part) => part === noNotes) ? summary : summarize(tensors, metadata, placed, joinedNotes(parts));
}

/** `readHeader` throws SafetensorsError. It may answer at once (in a worker thread) or later. */
export async function readContent(
  files: readonly ContentFile[],
  placed: FileKind,
  table: string | null,
  readHeader: (path: string) => Header | Promise<Header>,
): Promise<Reading> {
  try {
    const headers: Header[] = [];
    for (const { path, stamp } of files) {
      const header = await readHeader(path);
      if (!isHeaderOf(header, stamp)) return { problem: fileChanging, lasting: false };
      headers.push(header);
    }
    const [only] = headers;
    checkShards(
      headers.map(({ entries }, index) => ({ name: basename(files[index]?.path ?? ""), tensors: entries })),
      table === null ? null : await readShardTable(table),
    );
    if (headers.length === 1 && only !== undefined)
      return { summary: detached(await summarizeWithNotes(files, headers, only.entries, only.metadata, placed)) };
    const tensors = new Map<string, TensorEntry>();
    let metadata: Readonly<Record<string, string>> = {};
    for (const header of headers) {
      for (const [key, entry] of header.entries) tensors.set(key, entry);
      metadata = header.metadata;
    }
    const summary = detached(await summarizeWithNotes(files, headers, tensors, metadata, placed));
    if (summary.kind === "checkpoint") return { summary };
    return {
      problem: {
        code: "CATALOG_ADAPTER_SHARDED",
        message: `expected an adapter in one file; this one is in ${files.length}. Save it as one safetensors file.`,
      },
      lasting: true,
    };
  } catch (error) {
    return problemOf(error);
  }
}
