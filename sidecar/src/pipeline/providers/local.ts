// Engine hosts as child processes of the sidecar, on the devices of this computer.

import type { EngineProvider } from "../../refit/index.ts";
import { findDevices } from "../resolve/devices.ts";
import { createHostStarter, mayHaveCard } from "../resolve/hosts.ts";
import type { HostsOptions } from "../resolve/hosts.ts";

export interface LocalParts extends Omit<HostsOptions, "onDevice"> {
  /** Option `devices`. */
  readonly devices: string;
}

/** Starts no host. Throws OPTIONS_INVALID for devices and variables that cannot be meant. */
export async function localProvider({ devices: text, ...parts }: LocalParts): Promise<EngineProvider> {
  const devices = await findDevices({ text, environment: parts.environment, card: mayHaveCard() });
  return {
    devices: devices.of,
    problem: () => null,
    startHost: createHostStarter({ ...parts, onDevice: devices.start }),
    renew: null,
    patienceMs: 0,
    ownMemory: false,
    mayHaveCard: () => mayHaveCard(),
    close: async () => undefined,
  };
}
