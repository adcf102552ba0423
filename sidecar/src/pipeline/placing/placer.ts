// Places runs on devices: what each device holds and does now, told to the rule in `plan`. And what an operator sees of each device.

import { lessBusy, placeRun, stateKey } from "../../plan/index.ts";
import type { DeviceLook, Placement, PlacementRules } from "../../plan/index.ts";
import { engineBytes, hostKey } from "../../refit/index.ts";
import type { DeviceName, EngineSpec, Wanted } from "../../refit/index.ts";
import type { Leases } from "../../step/index.ts";
import type { Pace } from "./pace.ts";
import type { PlacedEngines } from "./placed-engines.ts";

export interface PlacerParts {
  readonly engines: Pick<PlacedEngines, "devices" | "find" | "get" | "isDown" | "on" | "runningHosts">;
  readonly leases: () => Pick<Leases<unknown>, "stays">;
  readonly pace: Pick<Pace<DeviceName>, "isSlow">;
  /** Free memory of a host's device as it was last told; null: not known. */
  readonly freeBytes: (hostKey: string) => number | null;
  readonly by: () => PlacementRules["by"];
  readonly nowMs: () => number;
}

export interface Placer {
  /** Where a run with these weights goes; `lost` are devices that have just failed it. Null: they are all there is. */
  readonly choose: (spec: EngineSpec, wanted: Wanted, lost?: ReadonlySet<DeviceName>) => Placement<DeviceName> | null;
  /** Why no new run goes to that device while another serves; null: it serves. */
  readonly drained: (kind: string, device: DeviceName) => DeviceLook<DeviceName>["drained"];
  /** How many devices new runs of that kind of host go to. */
  readonly places: (kind: string) => number;
  /** Where a run that waits on that device had better go on; null: nowhere. */
  readonly lessBusy: (spec: EngineSpec, device: DeviceName) => DeviceName | null;
  /** A run is on its way there, and leaves `from` if it was anywhere; until the answer is called (once or more often). */
  readonly heading: (device: DeviceName, from?: DeviceName) => () => void;
  /** Runs that use a device now. */
  readonly runs: (device: DeviceName) => number;
}

/** A run counts this long after its last step: its sampler, or its client, is between two of them. */
const activeMs = 1_000;

export function createPlacer({ engines, leases, pace, freeBytes, by, nowMs }: PlacerParts): Placer {
  const underWay = new Map<DeviceName, number>();

  const drained: Placer["drained"] = (kind, device) => (engines.isDown(kind, device) ? "down" : pace.isSlow(device) ? "slow" : null);

  const active = () =>
    leases()
      .stays()
      .filter(({ idleMs }) => idleMs < activeMs)
      .map((stay) => ({ ...stay, device: engines.get(stay.engine)?.device ?? null }));

  function look(spec: EngineSpec, device: DeviceName, stays: ReturnType<typeof active>): DeviceLook<DeviceName> {
    const engine = engines.find(spec, device);
    const present = engine?.wanted ?? null;
    const own = stays.filter((stay) => stay.engine === engine?.id).map(({ state }) => state);
    return {
      name: device,
      drained: drained(spec.hostKind, device),
      runs: Math.max(0, stays.filter((stay) => stay.device === device).length + (underWay.get(device) ?? 0)),
      freeBytes: freeOf(spec.hostKind, device),
      engines: engines.on(device),
      engine:
        engine === null
          ? null
          : { states: new Set([...(present === null ? [] : [stateKey(present.desired)]), ...own]), restingMs: nowMs() - engine.usedMs },
    };
  }

  function freeOf(kind: string, device: DeviceName): number | null {
    const key = hostKey(kind, device);
    return freeBytes(key) ?? engines.runningHosts().get(key)?.about.memory.freeBytes ?? null;
  }

  return {
    choose(spec, wanted, lost = new Set()) {
      const devices = engines.devices(spec.hostKind).filter((device) => !lost.has(device));
      if (devices.length === 0) return null;
      const stays = active();
      const looks = devices.map((device) => look(spec, device, stays));
      return placeRun(looks, stateKey(wanted.desired), { by: by(), engineBytes: engineBytes(spec) });
    },
    drained,
    places(kind) {
      const devices = engines.devices(kind).map((device) => drained(kind, device));
      // As `placeRun` has it: slow ones serve where no other does.
      const serving = [null, "slow", "down"].map((state) => devices.filter((one) => one === state).length);
      return serving.find((count) => count > 0) ?? 0;
    },
    lessBusy(spec, device) {
      const stays = active();
      const looks = engines.devices(spec.hostKind).map((name) => look(spec, name, stays));
      return lessBusy(looks, device, engineBytes(spec));
    },
    heading(device, from) {
      const count = (name: DeviceName, runs: number): unknown => underWay.set(name, (underWay.get(name) ?? 0) + runs);
      count(device, 1);
      if (from !== undefined) count(from, -1);
      let isUnderWay = true;
      return () => {
        if (!isUnderWay) return;
        isUnderWay = false;
        count(device, -1);
        if (from !== undefined) count(from, 1);
      };
    },
    runs: (device) => active().filter((stay) => stay.device === device).length,
  };
}
