// Engine hosts in the actors of a Ray cluster, through one gateway child. Ray keeps actors alive, places them on nodes and asks its autoscaler for more; here they are devices like any other.

import { setTimeout as pause } from "node:timers/promises";
import { gatewayProtocolVersion } from "@refit-sidecar/protocol";
import type { GatewayNotificationParams, GatewayParams } from "@refit-sidecar/protocol";
import { Failure } from "../../failure/index.ts";
import { namedVariables, pythonRun, startGateway } from "../../host/index.ts";
import type { Gateway, HostCommand } from "../../host/index.ts";
import { hostKey } from "../../refit/index.ts";
import type { DeviceName, EngineProvider } from "../../refit/index.ts";
import { hostCommand } from "../resolve/hosts.ts";
import type { HostPythons, HostsOptions } from "../resolve/hosts.ts";

export type RayFigures = GatewayNotificationParams<"figures">;
type Place = GatewayNotificationParams<"devices">["devices"][number];

export interface RayParts extends Pick<HostsOptions, "flags" | "onServing" | "environment"> {
  readonly pythons: HostPythons;
  readonly join: Omit<GatewayParams<"join">, "protocolVersion">;
  /** `source`: a host, or the gateway itself. */
  readonly onLog: (source: string, line: string, level: "debug" | "info" | "warn" | "error") => void;
  readonly onFigures: (figures: RayFigures) => void;
}

/** A node that the autoscaler has to bring takes minutes; until then runs go to actors that are there. */
const longestWaitMs = 600_000;
/** Actors and nodes come and go, and Ray brings new ones; a client that will not wait so long ends its request itself. */
const patienceMs = 300_000;
/** Between two tries to join again, once the gateway has ended; the last one repeats. */
const joinAgainMs = [0, 1_000, 5_000, 15_000] as const;

/** Joins the cluster; starts no host. Throws HOST_RAY_MISSING, HOST_RAY_UNREACHABLE, OPTIONS_INVALID, HOST_GATEWAY. */
export async function rayProvider(parts: RayParts): Promise<EngineProvider> {
  const { pythons, join, flags, onLog, onServing, environment } = parts;
  const places = new Map<string, Place>();
  const changed = new Set<() => void>();
  let isClosed = false;
  let gateway = await joined();

  function note(devices: readonly Place[]): void {
    for (const place of devices) places.set(place.name, place);
    for (const wake of [...changed]) wake();
  }

  async function joined(): Promise<Gateway> {
    const python = pythons("torch");
    if (python === null)
      throw new Failure("HOST_RAY_MISSING", "--engines ray needs a Python with Ray (pip install ray); name it with --python", {});
    const { command, args, env } = pythonRun(python, "refit_ray");
    const child = startGateway(
      { kind: "ray", command, args, env },
      {
        environment,
        onLog: (line, level) => onLog("ray", line, level),
        onDevices: note,
        onFigures: parts.onFigures,
      },
    );
    try {
      const { devices } = await child.call("join", { protocolVersion: gatewayProtocolVersion, ...join });
      const names = new Set(devices.map(({ name }) => name));
      // A cluster that began anew may have fewer nodes than the old one so far.
      const missing = [...places.values()].filter(({ name }) => !names.has(name));
      note([...devices, ...missing.map(({ name }) => ({ name, node: null, problem: "the cluster has no node for this actor yet" }))]);
    } catch (error) {
      await child.close();
      throw error;
    }
    void child.ended.then((why) => (isClosed ? undefined : joinAgain(why)));
    return child;
  }

  /** Actors end with the gateway that asked for them; the next one asks for new ones, which know nothing of the old. */
  async function joinAgain(why: string): Promise<void> {
    for (let attempt = 0, reason = why; !isClosed; attempt += 1) {
      onLog("ray", `the cluster at ${join.address} is not joined: ${reason}`, "warn");
      note(
        [...places.values()].map(({ name }) => ({ name, node: null, problem: `the Ray cluster is not joined: ${reason}`.slice(0, 2000) })),
      );
      await pause(joinAgainMs[Math.min(attempt, joinAgainMs.length - 1)], undefined, { ref: false });
      try {
        const next = await joined();
        if (isClosed) return await next.close();
        gateway = next;
        return;
      } catch (error) {
        reason = error instanceof Error ? error.message : String(error);
      }
    }
  }

  /** Throws HOST_START_FAILED. */
  async function awaitPlace(device: string): Promise<void> {
    const until = performance.now() + longestWaitMs;
    for (;;) {
      const problem = places.get(device)?.problem;
      if (problem === null) return;
      const left = until - performance.now();
      if (isClosed || problem === undefined || left <= 0)
        throw new Failure("HOST_START_FAILED", `${device} serves no host: ${problem ?? "the cluster has no such actor"}`, { device });
      await new Promise<void>((resolve) => {
        const wake = (): void => {
          clearTimeout(timer);
          changed.delete(wake);
          resolve();
        };
        const timer = setTimeout(wake, left);
        changed.add(wake);
      });
    }
  }

  /** As on this computer; nodes have the same files at the same places. */
  function commandOf(kind: string): HostCommand {
    const command = hostCommand(kind, pythons, flags);
    const more =
      kind === "onnxruntime" ? ["--threads", String(Math.max(1, Math.ceil(join.cpus)))] : ["--device", join.gpus > 0 ? "cuda" : "cpu"];
    return { ...command, args: [...command.args, ...more], env: { ...command.env, ...namedVariables(environment, process.env) } };
  }

  return {
    devices: () => [...places.keys()],
    problem: (device: DeviceName) => (device === null ? null : (places.get(device)?.problem ?? null)),
    async startHost(kind, _, device) {
      if (device === null) throw new Failure("HOST_START_FAILED", "the Ray cluster has no actor for this host", { kind });
      for (;;) {
        await awaitPlace(device);
        try {
          return await gateway.open(device, commandOf(kind), {
            onLog: (line, level) => onLog(hostKey(kind, device), line, level),
            onServing,
          });
        } catch (error) {
          // It went away meanwhile: nothing is wrong with the host.
          if (isClosed || (places.get(device)?.problem ?? null) === null) throw error;
        }
      }
    },
    async renew(device) {
      if (device !== null) await gateway.call("renew", { device });
    },
    patienceMs,
    ownMemory: true,
    mayHaveCard: () => join.gpus > 0,
    async close() {
      isClosed = true;
      for (const wake of [...changed]) wake();
      await gateway.close();
    },
  };
}
