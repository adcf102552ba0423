// Where runs go, and where they go on. In: what devices hold and do, how their hosts fare, how long steps take. Out: a device for a run, another place for a lease.
// It never changes what a run wants: the same desired state travels with it to every device.

import type { DeviceName } from "../../refit/index.ts";
import type { StepTensor } from "../../host/index.ts";
import type { LeaseReply, Place } from "../../step/index.ts";
import type { EngineLeases, OpenLease, Origin } from "../open-lease.ts";
import { createPace } from "./pace.ts";
import type { PlacedEngines } from "./placed-engines.ts";
import { createPlacer } from "./placer.ts";
import type { Placer, PlacerParts } from "./placer.ts";
import { createSpreader } from "./spread.ts";
import type { Spread } from "./spread.ts";

export type { PlacedEngines } from "./placed-engines.ts";

export interface PlacingParts extends Pick<PlacerParts, "freeBytes" | "by"> {
  readonly engines: PlacedEngines;
  readonly leases: () => EngineLeases;
  /** A device did not get a structure that it should have. */
  readonly onNotSpread: (device: DeviceName, error: unknown) => void;
}

export interface Placing {
  readonly placer: Placer;
  readonly spread: Spread;
  /** A lease has stepped: its time is compared with other devices', and one that had to wait goes on where less is to do. */
  readonly stepped: (lease: OpenLease, reply: LeaseReply, tensors: readonly StepTensor[]) => void;
  /** The same weights on another device that serves; null: there is none. */
  readonly elsewhere: (place: Place<Origin>) => Promise<Place<Origin> | null>;
  /** Its device is drained. */
  readonly mustLeave: (place: Place<Origin>) => boolean;
}

export function createPlacing({ engines, leases, freeBytes, by, onNotSpread }: PlacingParts): Placing {
  const nowMs = () => performance.now();
  const pace = createPace<DeviceName>(nowMs);
  const placer = createPlacer({ engines, leases, pace, freeBytes, by, nowMs });
  const deviceOf = ({ engine, origin }: Place<Origin>): { readonly kind: string; readonly device: DeviceName } => {
    const { hostKind } = origin.spec;
    return { kind: hostKind, device: engines.get(engine.id)?.device ?? engines.devices(hostKind)[0] ?? null };
  };
  const spread = createSpreader({ engines, placer, onFailed: onNotSpread, nowMs });
  return {
    placer,
    spread,
    stepped(lease, { engine: id, ms, waitedMs }, tensors) {
      const engine = engines.get(id);
      if (engine === null || engines.devices(engine.spec.hostKind).length < 2) return;
      if (waitedMs > ms) {
        const better = placer.lessBusy(engine.spec, engine.device);
        if (better !== null) spread(lease, engine.spec, better);
      }
      const sizes = tensors.map(({ name, shape }) => `${name} ${shape.join("x")}`).join();
      pace.note(engine.device, `${engine.spec.structure} ${engine.spec.precision} ${engine.spec.hostKind} ${sizes}`, ms);
    },
    async elsewhere(place) {
      const { kind, device } = deviceOf(place);
      const { wanted, origin } = place;
      const next = placer.choose(origin.spec, wanted, new Set([device]));
      // Only to one that serves better: a slow device is better than one that is down.
      if (next === null) return null;
      const there = placer.drained(kind, next.device);
      if (there === "down" || (there === "slow" && placer.drained(kind, device) !== "down")) return null;
      const { engine, release } = await engines.acquire(origin.spec, next.device);
      return { engine, release, wanted, origin };
    },
    mustLeave(place) {
      const { kind, device } = deviceOf(place);
      return engines.devices(kind).length > 1 && placer.drained(kind, device) !== null;
    },
  };
}
