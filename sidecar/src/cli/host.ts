import { resolve } from "node:path";
import type { Command } from "commander";
import { Failure } from "../failure/index.ts";
import { pythonRun } from "../host/index.ts";
import {
  chooseWheels,
  findGpus,
  hasAmdCompute,
  installedHost,
  installHost,
  pythonHosts,
  pythonOf,
  readRequirements,
  removeHost,
  tensorrtSupport,
} from "../install/host/index.ts";
import type { Gpu, HostWish, InstalledHost, PipSources, PythonHost } from "../install/host/index.ts";
import { tryHost } from "../selftest/index.ts";
import { dataDirOf } from "./data-dir.ts";
import { exitCode } from "./exit.ts";

interface HostFlags {
  readonly json?: boolean;
  readonly dataDir?: string;
}

interface InstallFlags extends HostFlags {
  readonly python?: string;
  readonly reuse?: string;
  readonly wheels: string;
  readonly indexUrl?: string;
  readonly extraIndexUrl?: readonly string[];
  readonly findLinks?: readonly string[];
  /** Commander's name for --no-index. */
  readonly index: boolean;
}

const gib = 2 ** 30;
/** Side folders: a few packages without PyTorch; TensorRT for RTX unpacks to about 2.5 GB. */
const sideBytes = { torch: gib, tensorrt: 6 * gib } as const;

function kindOf(name: string): PythonHost {
  const kind = pythonHosts.find((known) => known === name);
  if (kind === undefined)
    throw new Failure(
      "CLI_ARGUMENTS",
      `expected the host ${pythonHosts.join(" or ")}, got ${JSON.stringify(name)}; the embedded engine (onnxruntime) is part of the package`,
      {},
    );
  return kind;
}

const sourcesOf = (flags: InstallFlags): PipSources => ({
  indexUrl: flags.indexUrl ?? null,
  extraIndexUrls: flags.extraIndexUrl ?? [],
  findLinks: (flags.findLinks ?? []).map((place) => (/^[a-z]+:\/\//i.test(place) ? place : resolve(place))),
  noIndex: !flags.index,
});

/** An environment of its own, or beside what is there: by the flags, and for tensorrt beside an installed torch host. */
function placeOf(kind: PythonHost, flags: InstallFlags, dataDir: string): HostWish["place"] {
  if (flags.reuse !== undefined && flags.python !== undefined)
    throw new Failure("CLI_ARGUMENTS", "--reuse and --python exclude each other: the reused Python is the one that runs", {});
  if (flags.reuse !== undefined) return { mode: "reuse", python: flags.reuse };
  const torch = kind === "tensorrt" && flags.python === undefined ? installedHost(dataDir, "torch") : null;
  if (torch !== null && pythonOf(dataDir, torch) !== null) return { mode: "reuse", host: torch };
  return { mode: "own", python: flags.python ?? null };
}

async function wishOf(kind: PythonHost, flags: InstallFlags, gpus: readonly Gpu[], say: (line: string) => void): Promise<HostWish> {
  const dataDir = dataDirOf(flags);
  const sources = sourcesOf(flags);
  const place = placeOf(kind, flags, dataDir);
  const own = place.mode === "own";
  let tensorrt: readonly string[] = [];
  if (kind === "tensorrt") {
    const support = tensorrtSupport(gpus, process.platform, process.arch);
    if (!support.supported) throw new Failure("INSTALL_UNSUPPORTED", `the tensorrt host is not installed: ${support.reason}`, {});
    tensorrt = await readRequirements("tensorrt", { cuda: support.cuda });
    say(
      `TensorRT for RTX for CUDA ${support.cuda.slice(2)} (driver ${gpus[0]?.driver ?? ""})${support.note === null ? "" : `; ${support.note}`}`,
    );
  }
  const wanted = ["auto", "cuda", "rocm", "cpu"].find((name) => name === flags.wheels) as "auto" | "cuda" | "rocm" | "cpu" | undefined;
  if (wanted === undefined)
    throw new Failure("CLI_ARGUMENTS", `--wheels expects auto, cuda, rocm or cpu, got ${JSON.stringify(flags.wheels)}`, {});
  if (!own) {
    say("host" in place ? "beside the installed torch host" : "beside the packages of the given Python, which stay as they are");
    const beside = "host" in place ? [] : await readRequirements("torch-reuse");
    return { kind, dataDir, place, requirements: [...beside, ...tensorrt], wheels: "reused", needBytes: sideBytes[kind], sources };
  }
  const choice = chooseWheels(wanted, { platform: process.platform, gpus, amd: hasAmdCompute(), sources });
  say(`an environment of its own; PyTorch for ${choice.wheels}: ${choice.reason}`);
  return {
    kind,
    dataDir,
    place,
    requirements: [...(await readRequirements("torch")), ...tensorrt],
    wheels: choice.wheels,
    needBytes: choice.needBytes + (kind === "tensorrt" ? sideBytes.tensorrt : 0),
    sources,
  };
}

const shown = (dataDir: string, host: InstalledHost) => ({
  host: host.kind,
  mode: host.mode,
  python: pythonOf(dataDir, host)?.python ?? null,
  python_version: host.pythonVersion,
  versions: host.versions,
  wheels: host.wheels,
  device: host.device,
  size_bytes: host.sizeBytes,
  installed_at: host.installedAt,
});

function line(dataDir: string, host: InstalledHost): string {
  const { torch, ...rest } = host.versions;
  const special = Object.entries(rest).find(([name]) => name.startsWith("tensorrt"));
  const place =
    pythonOf(dataDir, host) === null
      ? "BROKEN: its Python or packages are gone; install it again"
      : host.mode === "own"
        ? "own environment"
        : "beside another Python's packages";
  return `${host.kind.padEnd(9)} PyTorch ${torch ?? "?"}${special === undefined ? "" : `, ${special.join(" ")}`}, Python ${host.pythonVersion}, ${host.device}, ${place}, ${(host.sizeBytes / 1e9).toFixed(2)} GB, ${host.installedAt.slice(0, 10)}`;
}

/** Also what `install` does for a UI on a graphics card. */
export async function installHostByName(name: string, flags: InstallFlags): Promise<InstalledHost> {
  const kind = kindOf(name);
  const say = (text: string) => void process.stderr.write(`refit-sidecar: ${text}\n`);
  const interrupted = new AbortController();
  const stop = () =>
    interrupted.abort(
      new Failure("INSTALL_INTERRUPTED", "interrupted; what serves was not touched, and the same command goes on from what is there", {}),
    );
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, stop);
  const wish = await wishOf(kind, flags, await findGpus(), say);
  const installed = await installHost(wish, {
    told: say,
    signal: interrupted.signal,
    probe: (python) => tryHost({ kind, ...pythonRun(python, "refit_host", ["--kind", kind]) }),
  });
  const above = kind === "torch" ? installedHost(wish.dataDir, "tensorrt") : null;
  if (above !== null)
    say(
      'the tensorrt host still stands on the packages that it was installed with; "refit-sidecar host install tensorrt" moves it to these',
    );
  return installed;
}

/** `host install`, `host ls`, `host rm`: engine hosts that need Python packages. */
export function addHost(program: Command, done: (code: number) => void): void {
  const host = program.command("host").description("engine hosts that need Python packages: install, list, remove");
  const run = async <Result>(
    flags: HostFlags,
    work: () => Promise<Result>,
    say: (result: Result) => void,
    json: (result: Result) => Record<string, unknown>,
  ) => {
    const result = await work();
    if (flags.json === true) console.log(JSON.stringify({ ok: true, ...json(result) }));
    else say(result);
    done(exitCode.ok);
  };
  const sub = (words: string, description: string) =>
    host
      .command(words)
      .description(description)
      .option("--data-dir <dir>", "data folder of the sidecar")
      .option("--json", "print one JSON object as the last line");
  const more = (value: string, list: readonly string[] = []) => [...list, value];
  sub("install <torch|tensorrt>", "install an engine host into the data folder; the packages of a UI are never changed")
    .option("--reuse <python>", "put only what is missing beside the packages of this Python (the UI's), and use its PyTorch")
    .option("--python <file>", "make the environment from this Python (default: the first of 3.10 or newer on PATH)")
    .option("--wheels <auto|cuda|rocm|cpu>", "build of PyTorch for an environment of its own; auto looks for an NVIDIA card", "auto")
    .option("--index-url <url>", "package index instead of pip's default")
    .option("--extra-index-url <url>", "package index besides the default; repeatable", more)
    .option("--find-links <place>", "folder or page with wheels; repeatable", more)
    .option("--no-index", "ask no index, only --find-links: for computers without a network")
    .action((name: string, flags: InstallFlags) =>
      run(
        flags,
        () => installHostByName(name, flags),
        (installed) =>
          console.log(
            `installed: ${line(dataDirOf(flags), installed)}\nA sidecar finds it by itself, a running one too. "refit-sidecar selftest --host ${installed.kind}" checks it in full.`,
          ),
        (installed) => ({ installed: shown(dataDirOf(flags), installed) }),
      ),
    );
  sub("ls", "list installed hosts").action((flags: HostFlags) => {
    const dataDir = dataDirOf(flags);
    return run(
      flags,
      () => Promise.resolve(pythonHosts.flatMap((kind) => installedHost(dataDir, kind) ?? [])),
      (hosts) =>
        console.log(
          [
            "onnxruntime part of the package",
            ...hosts.map((found) => line(dataDir, found)),
            ...(hosts.length === 0 ? ['no other host is installed; "refit-sidecar host install torch" installs one'] : []),
          ].join("\n"),
        ),
      (hosts) => ({ hosts: hosts.map((found) => shown(dataDir, found)) }),
    );
  });
  sub("rm <torch|tensorrt>", "remove an installed host and its packages").action((name: string, flags: HostFlags) =>
    run(
      flags,
      () => removeHost(dataDirOf(flags), kindOf(name)),
      (removed) => console.log(`removed the ${removed.kind} host (${(removed.sizeBytes / 1e9).toFixed(2)} GB)`),
      (removed) => ({ removed: removed.kind, size_bytes: removed.sizeBytes }),
    ),
  );
}
