// Measures deltas, one at a time, each in a thread of its own that ends with it. What was measured is kept.

import { Worker } from "node:worker_threads";
import { LRUCache } from "lru-cache";
import { Failure } from "../../failure/index.ts";
import type { TouchedLayer } from "./measure-delta.ts";

/** A row is about 150 bytes, an adapter has up to a few thousand. */
const keptAdapters = 64;

export class MeasureService {
  readonly #entry: URL;
  readonly #known = new LRUCache<string, Promise<readonly TouchedLayer[]>>({ max: keptAdapters });
  #last: Promise<unknown> = Promise.resolve();

  /** `entry` is the compiled worker; the default is the one beside this file. */
  constructor(entry: URL = new URL("./worker.js", import.meta.url)) {
    this.#entry = entry;
  }

  /** Rows of the delta in `path`, which is named by its content. Throws Failure DELTA_UNMEASURED when the thread fails. */
  layers(path: string): Promise<readonly TouchedLayer[]> {
    const known = this.#known.get(path);
    if (known) return known;
    const made = this.#last.then(() => this.#measure(path));
    this.#last = made.catch(() => undefined);
    this.#known.set(path, made);
    made.catch(() => this.#known.delete(path));
    return made;
  }

  #measure(path: string): Promise<readonly TouchedLayer[]> {
    return new Promise((resolve, reject) => {
      const worker = new Worker(this.#entry, { workerData: { path } });
      worker.unref();
      worker.once("message", (layers: readonly TouchedLayer[]) => resolve(layers));
      const failed = (cause: unknown) =>
        reject(
          new Failure(
            "DELTA_UNMEASURED",
            "expected the adapter's layers to be measured, its packed form could not be read; ask again",
            {},
            { cause },
          ),
        );
      worker.once("error", failed);
      worker.once("exit", (code) => (code === 0 ? undefined : failed(code)));
    });
  }
}
