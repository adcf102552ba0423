// Times as charts take them. Pure.

import type { WireResult } from "@refit-sidecar/protocol";

export type Figure = WireResult<"telemetry.figures">["figures"][number];
export type RefitRecord = WireResult<"engine.history">["records"][number];

/** Buckets between the first and the last that hold something, with labels such as `≤ 25 ms`. */
export function barsOf({ buckets }: Pick<Figure, "buckets">): {
  readonly labels: readonly string[];
  readonly places: number[];
  readonly counts: number[];
} {
  const first = buckets.findIndex(({ count }) => count > 0);
  const last = buckets.findLastIndex(({ count }) => count > 0);
  const shown = first < 0 ? [] : buckets.slice(Math.max(0, first - 1), last + 2);
  const largest = buckets.at(-2)?.upToMs ?? 0;
  const text = (upToMs: number | null) => (upToMs === null ? `>${seconds(largest)}` : seconds(upToMs));
  return {
    labels: shown.map(({ upToMs }) => text(upToMs)),
    places: shown.map((_, index) => index),
    counts: shown.map(({ count }) => count),
  };
}

const seconds = (value: number): string => (value >= 1000 ? `${value / 1000} s` : `${value}`);

/** Committed changes, oldest first: the whole time and the swap's part of it. Loads are left out, they are no refits. */
export function timelineOf(records: readonly RefitRecord[]): {
  readonly places: number[];
  readonly whole: number[];
  readonly swap: number[];
} {
  const shown = records.filter(({ kind, failure }) => kind !== "load" && failure === null).slice(-60);
  return {
    places: shown.map((_, index) => index),
    whole: shown.map(({ prepareMs, commitMs }) => prepareMs + commitMs),
    swap: shown.map(({ commitMs }) => commitMs),
  };
}
