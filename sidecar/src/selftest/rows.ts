import { homedir, hostname, userInfo } from "node:os";
import type { Row } from "./types.ts";

/** What a passed check tells. */
export interface Seen {
  readonly detail: string;
  readonly figures?: Readonly<Record<string, number>>;
}

const paths = /(?:[A-Za-z]:[\\/]|~?\/)(?:[^\s"'`:;,()<>]+[\\/])+[^\s"'`:;,()<>]*/g;

/** A text without paths, user and computer names: a report is sent to strangers. */
export function withoutPaths(text: string): string {
  const names = [homedir(), userName(), hostname()].filter((name) => name.length > 2);
  return names.reduce((kept, name) => kept.replaceAll(name, "<name>"), text.replaceAll(paths, "<path>"));
}

function userName(): string {
  try {
    return userInfo().username;
  } catch {
    // A container's user without an entry.
    return "";
  }
}

/** Runs checks one after another and keeps a row of each; a failed one does not stop the rest, unless the rest rests on it. */
export class Rows {
  readonly rows: Row[] = [];
  readonly #onRow: (row: Row) => void;
  readonly #first: boolean;

  /** `firstOnHardware`: the shipped table has no run of this host on such hardware. */
  constructor(firstOnHardware: boolean, onRow: (row: Row) => void) {
    this.#first = firstOnHardware;
    this.#onRow = onRow;
  }

  /** Whether it passed. */
  async check(id: string, title: string, work: () => Promise<Seen>): Promise<boolean> {
    try {
      const { detail, figures = {} } = await work();
      this.#add({ id, title, status: "pass", detail: withoutPaths(detail), figures, firstOnHardware: this.#first });
      return true;
    } catch (error) {
      const code = error instanceof Error && "code" in error ? ` [${String(error.code)}]` : "";
      this.#add({
        id,
        title,
        status: "fail",
        detail: withoutPaths(`${error instanceof Error ? error.message : String(error)}${code}`),
        figures: {},
        firstOnHardware: false,
      });
      return false;
    }
  }

  skip(id: string, title: string, why: string): void {
    this.#add({ id, title, status: "skip", detail: withoutPaths(why), figures: {}, firstOnHardware: false });
  }

  #add(row: Row): void {
    this.rows.push(row);
    this.#onRow(row);
  }
}

/** Throws with what was expected when it is not so. */
export function expectSo(so: boolean, text: string): void {
  if (!so) throw new Error(text);
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 1
    ? (sorted[middle] ?? Number.NaN)
    : ((sorted[middle - 1] ?? Number.NaN) + (sorted[middle] ?? Number.NaN)) / 2;
}
