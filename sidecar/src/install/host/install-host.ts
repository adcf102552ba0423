import { statfs } from "node:fs/promises";
import { basename } from "node:path";
import { Failure } from "../../failure/index.ts";
import type { HostPython } from "../../host/index.ts";
import { gibibytes } from "../../telemetry/index.ts";
import { findPython, pythonFacts, whyUnfit } from "./find-python.ts";
import {
  clearUnused,
  finishPartial,
  folderBytes,
  hostsFolder,
  installedHost,
  keptPath,
  lockHosts,
  openPartial,
  pythonOf,
  removePointer,
  writePointer,
} from "./hosts-folder.ts";
import { makeOwn } from "./own-environment.ts";
import { packageName } from "./requirements.ts";
import { makeSideFolder } from "./side-folder.ts";
import type { InstalledHost, PipSources, ProbeResult, PythonFacts, PythonHost, Told, Wheels } from "./types.ts";

export interface HostWish {
  readonly kind: PythonHost;
  readonly dataDir: string;
  /** An environment of its own made from this Python (null: one is looked for), or a side folder beside the packages of another. */
  readonly place:
    | { readonly mode: "own"; readonly python: string | null }
    | { readonly mode: "reuse"; readonly python: string }
    | { readonly mode: "reuse"; readonly host: InstalledHost };
  readonly requirements: readonly string[];
  readonly wheels: Wheels;
  readonly needBytes: number;
  readonly sources: PipSources;
}

export interface InstallParts {
  readonly told: Told;
  readonly signal?: AbortSignal;
  /** A trial run with the packages, before the host is switched to. Throws when it fails. */
  readonly probe: (python: HostPython, told: Told) => Promise<ProbeResult>;
  readonly now?: () => Date;
}

interface Ground {
  readonly facts: PythonFacts;
  readonly paths: readonly string[];
  readonly folders: readonly string[];
}

/** The Python that the installation stands on. */
async function groundOf({ place, dataDir }: HostWish, signal: AbortSignal | undefined): Promise<Ground> {
  if (place.mode === "own") return { facts: await findPython(place.python, signal), paths: [], folders: [] };
  const base = "host" in place ? pythonOf(dataDir, place.host) : { python: place.python, paths: [] };
  const facts = base === null ? null : await pythonFacts(base.python, base.paths, signal);
  const unfit = whyUnfit(facts);
  if (base === null || facts === null || unfit !== null)
    throw new Failure(
      "INSTALL_NO_PYTHON",
      `expected a Python to reuse: ${unfit ?? "it is gone"}. Give the Python that runs the UI (its python.exe, or bin/python of its environment)`,
      {},
    );
  return { facts, paths: base.paths, folders: "host" in place ? place.host.folders : [] };
}

async function checkSpace(folder: string, needBytes: number): Promise<void> {
  const { bavail, bsize } = await statfs(folder);
  const free = bavail * bsize;
  if (free >= needBytes) return;
  throw new Failure(
    "INSTALL_NO_SPACE",
    `expected ${gibibytes(needBytes)} of free space for packages and downloads; the data folder's disk has ${gibibytes(free)}. Free some, or choose another --data-dir`,
    { needBytes, freeBytes: free },
  );
}

/** A reused environment is its owner's: an updated PyTorch shows as another version there. */
const pythonVersionOf = ({ version }: PythonFacts): string => `${version[0]}.${version[1]}`;

/**
 * Installs a host beside what is there, tries it, and only then switches to it; an installed host keeps serving until that moment, and when anything fails.
 * Interrupted at any point, the same wish goes on with what is there. Throws INSTALL_… with what to do.
 */
export async function installHost(wish: HostWish, { told, signal, probe, now = () => new Date() }: InstallParts): Promise<InstalledHost> {
  const { kind, dataDir, requirements, sources } = wish;
  const unlock = await lockHosts(dataDir);
  try {
    const ground = await groundOf(wish, signal);
    const { folder, resumed } = await openPartial(dataDir, kind, {
      mode: wish.place.mode,
      python: ground.facts.executable,
      version: ground.facts.version,
      paths: ground.paths,
      requirements,
    });
    if (resumed) told("going on with an installation that did not end");
    else await checkSpace(hostsFolder(dataDir), wish.needBytes);
    const options = { sources, told, signal };
    let python: HostPython;
    if (wish.place.mode === "own") python = { python: await makeOwn(folder, ground.facts, requirements, options), paths: [] };
    else {
      const helper = ground.facts.pip === null ? await findPython(null, signal).catch(() => null) : null;
      python = {
        python: ground.facts.executable,
        paths: [await makeSideFolder(folder, ground.facts, ground.paths, helper, requirements, options), ...ground.paths],
      };
    }
    signal?.throwIfAborted();
    const found = await tried(python, wish, probe, told);
    const facts = await pythonFacts(python.python, python.paths, signal);
    const host: InstalledHost = {
      formatVersion: 1,
      kind,
      mode: wish.place.mode,
      python: keptPath(dataDir, python.python),
      paths: python.paths.map((path) => keptPath(dataDir, path)),
      folders: [basename(folder), ...ground.folders],
      pythonVersion: pythonVersionOf(ground.facts),
      versions: { ...versionsOf(facts, requirements), ...found.versions },
      wheels: wish.wheels,
      device: found.device,
      sizeBytes: await folderBytes(folder),
      installedAt: now().toISOString(),
    };
    signal?.throwIfAborted();
    await writePointer(dataDir, host);
    await finishPartial(folder);
    await clearUnused(dataDir);
    return host;
  } finally {
    await unlock();
  }
}

async function tried(python: HostPython, { kind, wheels }: HostWish, probe: InstallParts["probe"], told: Told): Promise<ProbeResult> {
  told("trying it: imports, a load, a refit and a few steps");
  let found: ProbeResult;
  try {
    found = await probe(python, told);
  } catch (cause) {
    throw new Failure(
      "INSTALL_PROBE_FAILED",
      `expected the ${kind} host to load a small model and step; ${cause instanceof Error ? cause.message : String(cause)} It was not switched to; an earlier installation keeps serving. With --reuse, packages of the UI may be too old: leave it out to get an environment of its own`,
      {},
      { cause },
    );
  }
  if (wheels === "cuda" && found.deviceType !== "cuda") {
    throw new Failure(
      "INSTALL_PROBE_FAILED",
      `expected the host to use the NVIDIA card; its PyTorch ${found.versions["torch"] ?? ""} sees none and would run on the CPU. Give PyTorch's CUDA index with --index-url, or take the CPU build with --wheels cpu. It was not switched to`,
      { deviceType: found.deviceType },
    );
  }
  return found;
}

const versionsOf = (facts: PythonFacts | null, requirements: readonly string[]): Record<string, string> =>
  Object.fromEntries(
    ["torch", ...requirements.map(packageName)].flatMap((name) =>
      facts?.packages[name] === undefined ? [] : [[name, facts.packages[name]]],
    ),
  );

/** Takes an installed host away. Throws INSTALL_HOST_ABSENT, or INSTALL_HOST_NEEDED while another stands on it. */
export async function removeHost(dataDir: string, kind: PythonHost): Promise<InstalledHost> {
  const unlock = await lockHosts(dataDir);
  try {
    const host = installedHost(dataDir, kind);
    // What an interrupted installation left goes too.
    await clearUnused(dataDir);
    if (host === null)
      throw new Failure("INSTALL_HOST_ABSENT", `expected an installed ${kind} host; there is none. "refit-sidecar host ls" lists them`, {
        kind,
      });
    const above = kind === "torch" ? installedHost(dataDir, "tensorrt") : null;
    if (above?.folders.includes(host.folders[0] ?? "") === true)
      throw new Failure(
        "INSTALL_HOST_NEEDED",
        'the tensorrt host stands on the packages of the torch host; run "refit-sidecar host rm tensorrt" first',
        {},
      );
    await removePointer(dataDir, kind);
    await clearUnused(dataDir);
    return host;
  } finally {
    await unlock();
  }
}
