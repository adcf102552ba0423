import type { RefitRecord } from "./types.ts";

/** Enough for a page and its percentiles; about 50 KB. */
const maxRecords = 256;

export interface RefitTotals {
  readonly loads: number;
  readonly refits: number;
  readonly recoveries: number;
  readonly failures: number;
  readonly bytesWritten: number;
}

/** The last refits and totals since start. */
export class RefitHistory {
  readonly #records: RefitRecord[] = [];
  #totals: RefitTotals = { loads: 0, refits: 0, recoveries: 0, failures: 0, bytesWritten: 0 };

  add(record: RefitRecord): void {
    this.#records.push(record);
    if (this.#records.length > maxRecords) this.#records.shift();
    const done = record.failure === null;
    const { loads, refits, recoveries, failures, bytesWritten } = this.#totals;
    this.#totals = {
      loads: loads + Number(done && record.kind === "load"),
      refits: refits + Number(done && record.kind === "refit"),
      recoveries: recoveries + Number(done && record.kind === "recovery"),
      failures: failures + Number(!done),
      bytesWritten: bytesWritten + (done ? record.bytesWritten : 0),
    };
  }

  /** Oldest first. */
  get records(): readonly RefitRecord[] {
    return this.#records.slice();
  }

  get totals(): RefitTotals {
    return this.#totals;
  }
}
