// What was used last, kept between runs of the sidecar, so that a restart warms what is likely wanted.

import { mkdir, readFile, rename, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import type { StepShapes } from "./probe.ts";
import type { RunRequest } from "./runs.ts";

export interface LastUsed {
  readonly note: (request: RunRequest) => void;
  /** Shapes of the newest step on engines of that structure. */
  readonly noteShapes: (structure: string, shapes: StepShapes) => void;
  readonly shapes: (structure: string) => StepShapes | null;
  /** Newest first. */
  readonly load: () => Promise<readonly RunRequest[]>;
  readonly recent: () => readonly RunRequest[];
  readonly flush: () => Promise<void>;
}

const keptRequests = 8;

interface Saved {
  readonly version: 1;
  readonly recent: readonly RunRequest[];
  readonly shapes?: Readonly<Record<string, StepShapes>>;
}

/** A list that cannot be read or kept costs a warm start, nothing else. */
export function createLastUsed(path: string): LastUsed {
  let recent: readonly RunRequest[] = [];
  const shapes = new Map<string, StepShapes>();
  let writing: Promise<void> = Promise.resolve();
  const key = (request: RunRequest) => JSON.stringify([request.checkpoint, request.stack, request.mode, request.precision, request.host, request.residuals]);

  async function save(): Promise<void> {
    const temp = `${path}.${process.pid}.tmp`;
    const saved: Saved = { version: 1, recent, shapes: Object.fromEntries(shapes) };
    await mkdir(dirname(path), { recursive: true });
    await writeFile(temp, JSON.stringify(saved), { mode: 0o600, flush: true });
    await rename(temp, path);
  }
  const saveSoon = (): void => void (writing = writing.then(save).catch(() => undefined));

  return {
    note(request) {
      if (recent[0] !== undefined && key(recent[0]) === key(request)) return;
      recent = [request, ...recent.filter((other) => key(other) !== key(request))].slice(0, keptRequests);
      saveSoon();
    },
    noteShapes(structure, now) {
      if (JSON.stringify(shapes.get(structure)) === JSON.stringify(now)) return;
      shapes.set(structure, now);
      saveSoon();
    },
    shapes: (structure) => shapes.get(structure) ?? null,
    async load() {
      try {
        const saved = JSON.parse(await readFile(path, "utf8")) as Saved;
        if (saved.version === 1 && Array.isArray(saved.recent)) recent = saved.recent.slice(0, keptRequests);
        for (const [structure, known] of Object.entries(saved.shapes ?? {})) shapes.set(structure, known);
      } catch {
        // None yet, or damaged: it is written anew with the next run.
      }
      return recent;
    },
    recent: () => recent,
    flush: () => writing,
  };
}
