// The engines of a running sidecar: who provides their hosts, and the memory that they may take.

import { mkdir } from "node:fs/promises";
import { freemem, totalmem } from "node:os";
import { mebibyte } from "../options/index.ts";
import type { Options } from "../options/index.ts";
import { Engines } from "../refit/index.ts";
import type { EngineProvider } from "../refit/index.ts";
import type { Events, Log, Metrics } from "../telemetry/index.ts";
import { localProvider, rayProvider } from "./providers/index.ts";
import type { RayFigures } from "./providers/index.ts";
import { hostFlags, keepsSpareHost } from "./resolve/hosts.ts";
import type { HostPythons } from "./resolve/hosts.ts";
import type { Stores } from "./stores.ts";

export interface EnginesSetup {
  /** Asked each time: configuration is reloaded. */
  readonly options: () => Options;
  readonly pythons: HostPythons;
  readonly stores: Pick<Stores, "flags">;
  readonly log: Log;
  readonly events: Pick<Events, "emit">;
  readonly metrics: Pick<Metrics, "gauges">;
  /** Where clients' segments lie; null: nowhere yet. */
  readonly segmentFolder: () => string | null;
  /** Where adapters that arrive on other computers are put; null: none are looked for. */
  readonly inbox: string | null;
}

/** Starts no host. Throws OPTIONS_INVALID for devices and variables that cannot be meant, and what a cluster says that cannot be joined. */
export async function createEngines(
  setup: EnginesSetup,
): Promise<{ readonly engines: Engines } & Pick<EngineProvider, "mayHaveCard" | "patienceMs">> {
  const { options, events } = setup;
  const provider = await providerOf(setup, (serving) => engines.noteServing(serving));
  const engines: Engines = new Engines({
    ...provider,
    keepsSpare: (kind, about) =>
      !provider.ownMemory &&
      keepsSpareHost({
        kind,
        option: options()["spare-host"],
        freeBytes: freemem(),
        device: about && { type: about.device.type, totalBytes: about.memory.totalBytes },
      }),
    asksDevice: (kind) => kind !== "onnxruntime",
    budgetBytes: (gpuBytes) => {
      const set = options()["engine-memory"];
      return set === 0 ? (gpuBytes ?? Math.floor(totalmem() / 2)) : set * mebibyte;
    },
    emit: events.emit,
  });
  return { engines, mayHaveCard: provider.mayHaveCard, patienceMs: provider.patienceMs };
}

async function providerOf(
  { options, pythons, stores, log, metrics, segmentFolder, inbox }: EnginesSetup,
  onServing: Parameters<typeof localProvider>[0]["onServing"],
): Promise<EngineProvider> {
  const given = options();
  const parts = {
    pythons,
    flags: (kind: "torch" | "tensorrt") => hostFlags(kind, options(), stores.flags),
    onLog: (host: string, line: string, level: "debug" | "info" | "warn" | "error") => log[level](`${host}: ${line}`),
    onServing,
    environment: given["host-env"],
  };
  if (given.engines === "local") return localProvider({ ...parts, devices: given.devices ?? "auto", segmentFolder });
  let figures: RayFigures = { steps: 0, p50Ms: null, p99Ms: null };
  metrics.gauges("refit_gateway_step_ms", "What the way through the Ray gateway adds to a step, by quantile, in ms", () =>
    [
      { quantile: "0.5", value: figures.p50Ms },
      { quantile: "0.99", value: figures.p99Ms },
    ].flatMap(({ quantile, value }) => (value === null ? [] : [{ labels: { quantile }, value }])),
  );
  if (inbox !== null) await mkdir(inbox, { recursive: true });
  return rayProvider({
    ...parts,
    onFigures: (told) => (figures = told),
    join: {
      address: given["ray-address"],
      actors: given["ray-actors"],
      gpus: given["ray-gpus"],
      cpus: given["ray-cpus"],
      files: given["ray-files"],
      adapters: given["ray-adapters"],
      inbox,
    },
  });
}
