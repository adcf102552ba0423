// Moves a run that waits to a device with less to do, which gets the structure and the weights while the run goes on where it is.

import type { DeviceName, EngineSpec } from "../../refit/index.ts";
import type { Lease } from "../../step/index.ts";
import type { PlacedEngines } from "./placed-engines.ts";
import type { Placer } from "./placer.ts";

export interface SpreaderParts {
  readonly engines: Pick<PlacedEngines, "acquire" | "get">;
  readonly placer: Pick<Placer, "heading">;
  readonly onFailed: (device: DeviceName, error: unknown) => void;
  readonly nowMs: () => number;
}

/** The device gets the lease's weights in the background; then the lease steps there. One that is under way already goes on. */
export type Spread = <Origin>(lease: Spreadable<Origin>, spec: EngineSpec, device: DeviceName) => void;

type Spreadable<Origin> = Pick<Lease<Origin>, "id" | "engine" | "move" | "wanted" | "origin">;

/** A device that could not take a structure is left alone for so long: most often it lacks memory. */
const pauseMs = 60_000;

export function createSpreader({ engines, placer, onFailed, nowMs }: SpreaderParts): Spread {
  const failedAt = new Map<DeviceName, number>();
  const underWay = new Set<string>();

  async function load<Origin>(lease: Spreadable<Origin>, spec: EngineSpec, device: DeviceName): Promise<void> {
    const arrived = placer.heading(device, engines.get(lease.engine)?.device);
    underWay.add(lease.id);
    try {
      const { engine, release } = await engines.acquire(spec, device);
      const moved = lease.move({ engine, release, wanted: lease.wanted, origin: lease.origin });
      arrived();
      await moved;
    } catch (error) {
      failedAt.set(device, nowMs());
      onFailed(device, error);
    } finally {
      arrived();
      underWay.delete(lease.id);
    }
  }

  return (lease, spec, device) => {
    if (underWay.has(lease.id)) return;
    const failed = failedAt.get(device);
    if (failed !== undefined && nowMs() - failed < pauseMs) return;
    failedAt.delete(device);
    void load(lease, spec, device);
  };
}
