import type { Host } from "../host/types.ts";
import type { DeviceName } from "./engine-key.ts";
import type { EngineSpec } from "./types.ts";

export type HostGraph = NonNullable<EngineSpec["graph"]>;

/** Where engine hosts run: on this computer, or on others. It knows devices and hosts; which engine goes where is decided by the placement, the same for every provider. */
export interface EngineProvider {
  /** Devices that hosts of that kind run on, the one that is asked first at the front. A device keeps its place here while it is away. */
  readonly devices: (kind: string) => readonly DeviceName[];
  /** Why no host runs there at present; null: one does, or can be started. */
  readonly problem: (device: DeviceName) => string | null;
  /** Starts a host of that kind on a device; `graphs` are those that it will likely be asked to load. Throws Failure HOST_START_FAILED. */
  readonly startHost: (kind: string, graphs: readonly HostGraph[], device: DeviceName) => Promise<Host>;
  /** The device's hosts end, and so does what they run in; both begin anew. Null: hosts run in nothing that could begin anew. */
  readonly renew: ((device: DeviceName) => Promise<void>) | null;
  /** How long a request waits while hosts end under it or are away, before it fails. On this computer 0: a UI has a path of its own, and a host that keeps ending is at fault itself. */
  readonly patienceMs: number;
  /** Each device has main memory of its own. */
  readonly ownMemory: boolean;
  /** Whether hosts may find a card. False is certain. */
  readonly mayHaveCard: () => boolean;
  /** Ends what hosts run in, and whoever waits for a host. */
  readonly close: () => Promise<void>;
}
