// The engines of a running sidecar: their devices, their host processes, the memory that they may take.

import { freemem, totalmem } from "node:os";
import type { Options } from "../options/index.ts";
import { Engines } from "../refit/index.ts";
import type { Events, Log } from "../telemetry/index.ts";
import { findDevices } from "./resolve/devices.ts";
import { createHostStarter, hostFlags, keepsSpareHost, mayHaveCard } from "./resolve/hosts.ts";
import type { HostPythons } from "./resolve/hosts.ts";
import type { Stores } from "./stores.ts";

export interface EnginesSetup {
  /** Asked each time: configuration is reloaded. */
  readonly options: () => Options;
  readonly pythons: HostPythons;
  readonly stores: Pick<Stores, "flags">;
  readonly log: Log;
  readonly events: Pick<Events, "emit">;
  /** Where clients' segments lie; null: nowhere yet. */
  readonly segmentFolder: () => string | null;
}

const mebibyte = 1024 * 1024;

/** Starts no host. Throws OPTIONS_INVALID for devices and variables that cannot be meant. */
export async function createEngines({ options, pythons, stores, log, events, segmentFolder }: EnginesSetup): Promise<Engines> {
  const environment = options()["host-env"];
  const devices = await findDevices({ text: options().devices ?? "auto", environment, card: mayHaveCard() });
  const engines: Engines = new Engines({
    devices: devices.of,
    startHost: createHostStarter({
      pythons,
      flags: (kind) => hostFlags(kind, options(), stores.flags),
      onLog: (host, line, level) => log[level](`${host}: ${line}`),
      onServing: (serving) => engines.noteServing(serving),
      environment,
      onDevice: devices.start,
      segmentFolder,
    }),
    keepsSpare: (kind) => keepsSpareHost(kind, options()["spare-host"], freemem()),
    asksDevice: (kind) => kind !== "onnxruntime",
    budgetBytes: (gpuBytes) => {
      const set = options()["engine-memory"];
      return set === 0 ? (gpuBytes ?? Math.floor(totalmem() / 2)) : set * mebibyte;
    },
    emit: events.emit,
  });
  return engines;
}
