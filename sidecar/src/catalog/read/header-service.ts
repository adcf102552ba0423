// Who reads a header: the caller's own thread while there are few (a file dropped into a folder is known in milliseconds), worker threads while there are
// many (a scan of thousands takes seconds). Workers end when they have been idle for a while, and give their memory back.

import { Worker } from "node:worker_threads";
import type { FileKind } from "../../arrivals/types.ts";
import type { ContentFile, Reading } from "../reader.ts";
import type { ContentAnswer, ContentRequest } from "./header-worker.ts";

export interface HeaderService {
  readonly read: (files: readonly ContentFile[], placed: FileKind, table: string | null) => Promise<Reading>;
  readonly close: () => Promise<void>;
}

export interface HeaderServiceParts {
  /** Reads on the calling thread. */
  readonly readHere: (files: readonly ContentFile[], placed: FileKind, table: string | null) => Promise<Reading>;
  /** Compiled worker; null reads everything here. */
  readonly entry: URL | null;
  readonly threads: number;
}

/** Starting a thread takes as long as reading about this many headers. */
const fewReadings = 8;
const idleMs = 2000;
/** A header is at most 100 MB of text; the young space is kept small because a scan makes nothing but short-lived objects. */
const limits = { maxYoungGenerationSizeMb: 8, maxOldGenerationSizeMb: 1024 };

interface Thread {
  readonly worker: Worker;
  readonly waiting: Map<number, (reading: Reading) => void>;
}

const died: Reading = {
  problem: {
    code: "CATALOG_READER_DIED",
    message:
      "expected the header to be read; the thread that read it ended (out of memory?). It is tried again at the next change or start.",
  },
  lasting: false,
};

export function createHeaderService(parts: HeaderServiceParts): HeaderService {
  const threads: Thread[] = [];
  let active = 0;
  let nextId = 1;
  let idle: NodeJS.Timeout | null = null;
  let closed = false;

  const start = (entry: URL): Thread => {
    const thread: Thread = { worker: new Worker(entry, { resourceLimits: limits }), waiting: new Map() };
    thread.worker.unref();
    const lose = () => {
      const at = threads.indexOf(thread);
      if (at >= 0) threads.splice(at, 1);
      for (const resolve of thread.waiting.values()) resolve(died);
      thread.waiting.clear();
    };
    thread.worker.on("message", ({ id, reading }: ContentAnswer) => {
      thread.waiting.get(id)?.(reading);
      thread.waiting.delete(id);
      // A thread without work must not keep the process alive; one with work must.
      if (thread.waiting.size === 0) thread.worker.unref();
    });
    thread.worker.on("error", lose);
    thread.worker.on("exit", lose);
    threads.push(thread);
    return thread;
  };

  const readThere = (entry: URL, files: readonly ContentFile[], placed: FileKind, table: string | null): Promise<Reading> => {
    const leastBusy = threads.reduce<Thread | null>(
      (best, thread) => (best === null || thread.waiting.size < best.waiting.size ? thread : best),
      null,
    );
    const thread = leastBusy !== null && (leastBusy.waiting.size === 0 || threads.length >= parts.threads) ? leastBusy : start(entry);
    const id = nextId;
    nextId += 1;
    return new Promise((resolve) => {
      thread.waiting.set(id, resolve);
      thread.worker.ref();
      thread.worker.postMessage({ id, files, placed, table } satisfies ContentRequest);
    });
  };

  const stopAll = async (): Promise<void> => {
    await Promise.all(threads.splice(0).map(({ worker }) => worker.terminate()));
  };

  return {
    async read(files, placed, table) {
      active += 1;
      if (idle !== null) clearTimeout(idle);
      idle = null;
      try {
        const there = parts.entry !== null && !closed && (threads.length > 0 || active > fewReadings);
        return there && parts.entry !== null
          ? await readThere(parts.entry, files, placed, table)
          : await parts.readHere(files, placed, table);
      } finally {
        active -= 1;
        if (active === 0 && threads.length > 0) idle = setTimeout(() => void stopAll(), idleMs).unref();
      }
    },
    async close() {
      closed = true;
      if (idle !== null) clearTimeout(idle);
      await stopAll();
    },
  };
}
