// One host process for the parts of the suite that leave it as they found it: starting one takes seconds where it imports PyTorch.

import { afterAll } from "vitest";
import { startHost, type Host, type HostCommand } from "../../../sidecar/src/host/index.ts";

const running = new Map<HostCommand, Promise<Host>>();

/** The running host of this command, started when there is none, or when the last one has ended. */
export function sharedHost(command: HostCommand): Promise<Host> {
  const known = running.get(command);
  if (known !== undefined) return known;
  const starting = startHost(command);
  running.set(command, starting);
  const forget = (): void => void (running.get(command) === starting && running.delete(command));
  starting.then((host) => host.ended.then(forget, forget), forget);
  return starting;
}

/** Gives back whatever a part has loaded. A host that has ended has nothing left. */
export async function leaveHost(host: Host): Promise<void> {
  const { engines } = await host.call("status", {}).catch(() => ({ engines: [] }));
  for (const { engine } of engines) await host.call("unload", { engine });
}

/** To be called where the parts are put together. */
export function closeSharedHost(command: HostCommand): void {
  afterAll(async () => {
    const host = await running.get(command)?.catch(() => undefined);
    await host?.close();
  });
}
