// Which engine hosts this computer can run, and how each is started.

import { existsSync } from "node:fs";
import { join } from "node:path";
import { Failure } from "../../failure/index.ts";
import { hugePages, namedVariables, pythonRun, startHost } from "../../host/index.ts";
import type { Host, HostCommand, HostPython, LogLevel, StartOptions } from "../../host/index.ts";
import { installedHost, pythonOf } from "../../install/host/index.ts";
import type { Options } from "../../options/index.ts";
import { packageRoot } from "../../package-root.ts";
import { hostKey } from "../../refit/index.ts";
import type { DeviceName, HostGraph } from "../../refit/index.ts";
import type { Devices } from "./devices.ts";

export type HostKind = "onnxruntime" | "torch" | "tensorrt";

export interface HostsOptions {
  readonly pythons: HostPythons;
  /** Flags of a GPU host, from the sidecar's own options. */
  readonly flags: (kind: "torch" | "tensorrt") => readonly string[];
  readonly onLog: (kind: string, line: string, level: LogLevel) => void;
  readonly onServing: NonNullable<StartOptions["onServing"]>;
  /** The operator's own variables, NAME or NAME=VALUE. */
  readonly environment: readonly string[];
  /** How a host is told to run on a device. */
  readonly onDevice: Devices["start"];
  /** Where clients' segments lie; null: nowhere. Asked at each start. */
  readonly segmentFolder: () => string | null;
}

/** The Python of a host: the one that the operator named, else the installed host's; null when there is neither. Asked each time, so a host that is installed while the sidecar runs is found. */
export type HostPythons = (kind: "torch" | "tensorrt") => HostPython | null;

/** `named`: option or environment. Throws INSTALL_HOST_DAMAGED. */
export function hostPythons(dataDir: string, named: () => string | null): HostPythons {
  return (kind) => {
    const python = named();
    if (python !== null) return { python, paths: [] };
    const host = installedHost(dataDir, kind);
    return host === null ? null : pythonOf(dataDir, host);
  };
}

/** Every kind of host, and why those that cannot be started cannot. */
export const hostKinds = (
  pythons: HostPythons,
): readonly { readonly kind: HostKind; readonly problem: { readonly code: string; readonly message: string } | null }[] => [
  { kind: "onnxruntime", problem: null },
  ...(["torch", "tensorrt"] as const).map((kind) => ({
    kind,
    problem:
      pythons(kind) === null
        ? { code: "HOST_NOT_CONFIGURED", message: `it is not installed; run "refit-sidecar host install ${kind}" or pass --python` }
        : null,
  })),
];

/** How GPU hosts use the device. `stores`: flags that name the engine stores. */
export function hostFlags(
  kind: "torch" | "tensorrt",
  options: Pick<Options, "vram-cap" | "vram-weights" | "idle-offload" | "base" | "tier" | "adapter-loss" | "rounding" | "device-segments">,
  stores: readonly string[],
): readonly string[] {
  const flags = [
    "--vram-mib",
    String(options["vram-cap"]),
    "--weights-mib",
    String(options["vram-weights"]),
    "--idle-seconds",
    String(options["idle-offload"]),
    "--base",
    options.base,
    "--share",
    options["device-segments"],
    ...stores,
  ];
  return kind === "torch"
    ? [...flags, "--tier", options.tier, "--adapter-loss", String(options["adapter-loss"] / 100), "--rounding", options.rounding]
    : flags;
}

/** An embedded host opens so many graphs ahead; about 30 MB each. */
const warmGraphs = 2;

/**
 * What has to be free for a second host to wait. Of the embedded engine one takes about 150 MB. One of PyTorch takes 1 GB and, with a card, half a gigabyte of it: nobody
 * with a small card would give that away for a crash.
 */
const spareFreeBytes = 2 * 1024 ** 3;
const spareFreeBytesOfTorch = 12 * 1024 ** 3;
const spareDeviceBytes = 20 * 1024 ** 3;

export interface SpareLook {
  readonly kind: string;
  readonly option: Options["spare-host"];
  readonly freeBytes: number;
  /** Of the device that the first one runs on, and whether it is a card. */
  readonly device: { readonly type: string; readonly totalBytes: number } | null;
}

export function keepsSpareHost({ kind, option, freeBytes, device }: SpareLook): boolean {
  if (option !== "on") return false;
  if (kind === "onnxruntime") return freeBytes > spareFreeBytes;
  return kind === "torch" && freeBytes > spareFreeBytesOfTorch && device?.type === "cuda" && device.totalBytes > spareDeviceBytes;
}

/** Throws HOST_NOT_CONFIGURED. `graphs`: what it will likely load, first ones first. `tunables`: those of glibc that the operator has set. */
export function hostCommand(
  kind: string,
  pythons: HostPythons,
  flags: HostsOptions["flags"] = () => [],
  graphs: readonly HostGraph[] = [],
  tunables: string | undefined = process.env["GLIBC_TUNABLES"],
): HostCommand {
  if (kind === "onnxruntime") {
    const warm = graphs.slice(0, warmGraphs).flatMap(({ folder, variant }) => ["--warm-graph", `${variant}:${folder}`]);
    return {
      kind,
      command: process.execPath,
      args: [join(packageRoot, "dist", "hosts", "onnxruntime", "main.js"), ...warm],
      env: hugePages(process.platform, tunables),
    };
  }
  if (kind !== "torch" && kind !== "tensorrt")
    throw new Failure("HOST_NOT_CONFIGURED", `expected the host onnxruntime, torch or tensorrt, got ${JSON.stringify(kind)}`, { kind });
  const python = pythons(kind);
  if (python === null) {
    throw new Failure(
      "HOST_NOT_CONFIGURED",
      `the ${kind} host needs a Python with its packages; run "refit-sidecar host install ${kind}", or pass --python`,
      { kind },
    );
  }
  return { kind, ...pythonRun(python, "refit_host", ["--kind", kind, ...flags(kind)]) };
}

/** Throws OPTIONS_INVALID for a variable that cannot be set. */
export function createHostStarter({
  pythons,
  flags,
  onLog,
  onServing,
  environment,
  onDevice,
  segmentFolder,
}: HostsOptions): (kind: string, graphs: readonly HostGraph[], device: DeviceName) => Promise<Host> {
  const named = namedVariables(environment, process.env);
  return (kind, graphs, device) => {
    const there = onDevice(device);
    const command = hostCommand(kind, pythons, (gpuKind) => [...flags(gpuKind), ...there.flags], graphs, named["GLIBC_TUNABLES"]);
    return startHost(
      { ...command, env: { ...command.env, ...there.env } },
      {
        onLog: (line, level) => onLog(hostKey(kind, device), line, level),
        onServing,
        environment,
        segmentFolder: segmentFolder(),
      },
    );
  };
}

/** Marks of a driver that PyTorch computes with (CUDA, ROCm, CUDA under WSL). */
const driverMarks: Partial<Record<NodeJS.Platform, readonly string[]>> = {
  linux: ["/dev/nvidiactl", "/dev/kfd", "/dev/dxg"],
  win32: ["nvcuda.dll", "amdhip64.dll", "amdhip64_6.dll", "amdhip64_7.dll"].map((name) =>
    join(process.env["SystemRoot"] ?? "C:\\Windows", "System32", name),
  ),
};

/** Whether the torch host may find a card here. False is certain; true only means that the host has to be asked. */
export const mayHaveCard = (platform: NodeJS.Platform = process.platform, exists: (path: string) => boolean = existsSync): boolean =>
  (driverMarks[platform] ?? []).some(exists);

export interface AutoSight {
  readonly pythons: HostPythons;
  readonly card: boolean;
  readonly winner?: () => "torch" | "tensorrt" | null;
}

/** The host that "auto" means: the embedded one, which is the fastest on a processor, unless there is a card and a Python for a GPU host; of those torch, unless tensorrt won on this computer (`winner`). */
export function autoHost(configured: "auto" | HostKind, { pythons, card, winner = () => null }: AutoSight): HostKind {
  if (configured !== "auto") return configured;
  if (!card || pythons("torch") === null) return "onnxruntime";
  return pythons("tensorrt") !== null && winner() === "tensorrt" ? "tensorrt" : "torch";
}
