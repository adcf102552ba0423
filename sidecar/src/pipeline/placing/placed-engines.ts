// What placement asks of engines: less than they are, so that a pool in virtual time can stand in for them.

import type { DeviceName, Engines, EngineLease, EngineSpec, LiveEngine } from "../../refit/index.ts";
import type { Place } from "../../step/index.ts";

type Steppable = Place<unknown>["engine"];

export type PlacedEngine = Steppable & Pick<LiveEngine, "device" | "spec" | "wanted" | "usedMs">;

export interface PlacedEngines extends Pick<Engines, "devices" | "isDown" | "on" | "runningHosts"> {
  readonly find: (spec: EngineSpec, device: DeviceName) => PlacedEngine | null;
  readonly get: (id: string) => PlacedEngine | null;
  /** The right to use an engine, as `EngineLease`. */
  readonly acquire: (spec: EngineSpec, device: DeviceName) => Promise<Pick<EngineLease, "release"> & { readonly engine: Steppable }>;
}
