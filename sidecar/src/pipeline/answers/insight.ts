// What pages show of the sidecar itself: times, log, settings, caches, and the phases of the last refits.

import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { mebibyte, optionTable } from "../../options/index.ts";
import type { OptionSpec, Options } from "../../options/index.ts";
import type { Engines } from "../../refit/index.ts";
import type { Log } from "../../telemetry/index.ts";
import { withoutPaths } from "../../wire/index.ts";
import type { WireBackend } from "../../wire/index.ts";
import type { Stores } from "../stores.ts";
import type { OperatorMetrics } from "./metrics.ts";
import { wallClockOf } from "./views.ts";

export interface InsightParts {
  readonly engines: Engines;
  readonly figures: OperatorMetrics["figures"];
  readonly log: Log;
  readonly options: () => Options;
  readonly stores: Stores;
  readonly deltaFolder: string;
}

const usual = 200;
const finite = (value: number): number | null => (Number.isFinite(value) ? value : null);

/** A setting as a page may see it: nothing of a path but whether it is set, and how many there are. */
export function settingText(spec: OptionSpec, value: Options[keyof Options]): string | null {
  const place = spec.type === "folder" || ("paths" in spec && spec.paths === true);
  if (Array.isArray(value)) {
    if (value.length === 0) return null;
    return place ? `${value.length} folder${value.length === 1 ? "" : "s"}` : withoutPaths(value.join(", "));
  }
  if (value === null || value === "") return null;
  return place ? "set" : withoutPaths(String(value));
}

type Insight = "engine.history" | "telemetry.figures" | "telemetry.log" | "settings.list" | "cache.list";

export function insightAnswers(parts: InsightParts): Pick<WireBackend, Insight> {
  async function deltas() {
    const names = (await readdir(parts.deltaFolder).catch(() => [])).filter((name) => name.endsWith(".delta"));
    const sizes = await Promise.all(
      names.map((name) =>
        stat(join(parts.deltaFolder, name)).then(
          ({ size }) => size,
          () => 0,
        ),
      ),
    );
    return { name: "deltas" as const, entries: names.length, bytes: sum(sizes), limitBytes: parts.options()["delta-cache"] * mebibyte };
  }

  async function engines() {
    const entries = await parts.stores.own.list();
    return {
      name: "engines" as const,
      entries: entries.length,
      bytes: sum(entries.map(({ sizeBytes }) => sizeBytes)),
      limitBytes: parts.options()["engine-store-size"] * mebibyte,
    };
  }

  return {
    "engine.history": async ({ limit = usual }) => ({
      records: parts.engines.status.history
        .slice(-limit)
        .map(({ atMs, engine, kind, full, writes, bytesRead, bytesWritten, prepareMs, commitMs, mode, failure }) => ({
          engine,
          at: wallClockOf(atMs),
          kind,
          full,
          writes,
          bytesRead,
          bytesWritten,
          prepareMs,
          commitMs,
          mode,
          failure,
        })),
    }),
    "telemetry.figures": async () => ({
      figures: (["step", "wait", "refit", "swap"] as const).map((name) => {
        const histogram = parts.figures[name];
        return {
          name,
          count: histogram.count(),
          p50Ms: finite(histogram.quantile(0.5)),
          p95Ms: finite(histogram.quantile(0.95)),
          p99Ms: finite(histogram.quantile(0.99)),
          buckets: histogram.buckets().map(({ upTo, count }) => ({ upToMs: upTo, count })),
        };
      }),
    }),
    "telemetry.log": async ({ limit = usual }) => ({
      lines: parts.log
        .recent()
        .slice(-limit)
        .map(({ at, level, text }) => ({ at, level, text: withoutPaths(text) })),
    }),
    "settings.list": async () => {
      const options = parts.options();
      return {
        settings: optionTable.map((spec) => {
          const value = options[spec.name];
          const text = settingText(spec, value);
          return { name: spec.name, value: text, changed: text !== settingText(spec, spec.default), reload: spec.reload, help: spec.help };
        }),
      };
    },
    "cache.list": async () => ({ parts: [await deltas(), await engines()] }),
  };
}

const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);
