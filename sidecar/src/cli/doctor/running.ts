import { connect, readDiscovery } from "../../client/index.ts";
import { Failure } from "../../failure/index.ts";
import { mebibyte } from "../../options/index.ts";
import { gibibytes } from "../../telemetry/index.ts";
import type { WireResult } from "@refit-sidecar/protocol";
import type { Finding } from "./finding.ts";

type Device = WireResult<"status">["devices"][number];

export function deviceFinding({ name, hardware, state, problem, runs, engines, enginesBytes, memory, tiers, restarts }: Device): Finding {
  const free = memory === null ? [] : [`${gibibytes(memory.freeBytes)} of ${gibibytes(memory.totalBytes)} free`];
  const holds = engines === 0 ? [] : [`${engines} engines of ${Math.round(enginesBytes / mebibyte)} MiB`];
  const found = [state, hardware ?? "no host yet", `${runs} runs`, ...holds, ...tiers, ...free, `${restarts} restarts`].join(", ");
  const remedy = {
    idle: null,
    up: null,
    slow: "its steps take several times as long as elsewhere, so new runs go to other devices for a minute; does something else use it?",
    down: `${problem ?? "its host is being started"}; runs go to other devices, or wait`,
  }[state];
  return { name: `device ${name} of the running sidecar`, ok: remedy === null, found, remedy, optional: false };
}

/** Devices of the sidecar that runs on this data folder; one line that says so where none does. */
export async function runningFindings(dataDir: string): Promise<readonly Finding[]> {
  try {
    const client = await connect(await readDiscovery(dataDir), "doctor");
    try {
      return (await client.call("status", {})).result.devices.map(deviceFinding);
    } finally {
      await client.close();
    }
  } catch (error) {
    const isAbsent = error instanceof Failure && error.code === "CLIENT_NOT_RUNNING";
    const found = isAbsent ? "none on this data folder" : error instanceof Error ? error.message : String(error);
    return [{ name: "running sidecar", ok: isAbsent, found, remedy: isAbsent ? null : 'try "refit-sidecar top"', optional: true }];
  }
}
