// What was used last, kept between runs of the sidecar, so that a restart warms what is likely wanted.

import { readFile } from "node:fs/promises";
import { wireMethods } from "@refit-sidecar/protocol";
import { z } from "zod";
import { keepText, readKept } from "../../files/index.ts";
import type { LastStep, StepShapes } from "./probe.ts";
import type { LeaseRequest } from "../open-lease.ts";

export interface LastUsed {
  readonly note: (request: LeaseRequest) => void;
  /** The newest step on engines of that structure. Of several at one size the fastest counts: the first one pays for more than itself. True when its size is new. */
  readonly noteStep: (structure: string, shapes: StepShapes, ms: number) => boolean;
  /** What the host process took after a step at that size, weights included. */
  readonly noteMemory: (structure: string, bytes: number) => void;
  readonly step: (structure: string) => LastStep | null;
  /** Newest first. */
  readonly load: () => Promise<readonly LeaseRequest[]>;
  readonly recent: () => readonly LeaseRequest[];
  readonly flush: () => Promise<void>;
}

const keptRequests = 8;

const format = "refit-last-used-2";
/** Eight requests with long stacks, and a few structures. */
const maxBytes = 1024 * 1024;
const saved = z.object({
  version: z.literal(1),
  recent: z.array(wireMethods["engine.warm"].params),
  steps: z
    .record(z.string(), z.object({ shapes: z.record(z.string(), z.array(z.number())), ms: z.number(), bytes: z.number().nullable() }))
    .default({}),
});
type Saved = z.infer<typeof saved>;

/** Null when there is none, or none that can be read. 0.1.0 wrote the JSON alone. */
export async function readLastUsed(path: string): Promise<Saved | null> {
  const { text, reason } = await readKept(path, format, maxBytes);
  if (text === null && reason !== "it has another format") return null;
  try {
    return saved.parse(JSON.parse(text ?? (await readFile(path, "utf8"))));
  } catch {
    return null;
  }
}

/** A list that cannot be read or kept costs a warm start, nothing else. */
export function createLastUsed(path: string): LastUsed {
  let recent: readonly LeaseRequest[] = [];
  const steps = new Map<string, LastStep>();
  let unsaved = false;
  let writing: Promise<void> = Promise.resolve();
  const key = (request: LeaseRequest) =>
    JSON.stringify([request.checkpoint, request.stack, request.mode, request.precision, request.host, request.residuals]);

  async function save(): Promise<void> {
    const now = { version: 1, recent, steps: Object.fromEntries(steps) };
    unsaved = false;
    await keepText(path, format, JSON.stringify(now));
  }
  const saveSoon = (): void => void (writing = writing.then(save).catch(() => undefined));

  return {
    note(request) {
      if (recent[0] !== undefined && key(recent[0]) === key(request)) return;
      recent = [request, ...recent.filter((other) => key(other) !== key(request))].slice(0, keptRequests);
      saveSoon();
    },
    noteStep(structure, shapes, ms) {
      const last = steps.get(structure);
      if (last !== undefined && JSON.stringify(last.shapes) === JSON.stringify(shapes)) {
        if (ms >= last.ms) return false;
        // Kept with whatever is written next: a time is not worth a write of its own after every step.
        steps.set(structure, { ...last, ms });
        unsaved = true;
        return false;
      }
      steps.set(structure, { shapes, ms, bytes: null });
      saveSoon();
      return true;
    },
    noteMemory(structure, bytes) {
      const last = steps.get(structure);
      if (last === undefined) return;
      steps.set(structure, { ...last, bytes });
      saveSoon();
    },
    step: (structure) => steps.get(structure) ?? null,
    async load() {
      // None yet, or damaged: it is written anew with the next run.
      const found = await readLastUsed(path);
      recent = found?.recent.slice(0, keptRequests) ?? [];
      for (const [structure, known] of Object.entries(found?.steps ?? {})) steps.set(structure, known);
      return recent;
    },
    recent: () => recent,
    flush() {
      if (unsaved) saveSoon();
      return writing;
    },
  };
}
