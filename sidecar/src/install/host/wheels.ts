// Which build of PyTorch an environment of its own gets, and what the user has to give for it. Pure.

import { Failure } from "../../failure/index.ts";
import type { Gpu, PipSources, Wheels } from "./types.ts";

export interface WheelSight {
  readonly platform: string;
  readonly gpus: readonly Gpu[];
  readonly amd: boolean;
  readonly sources: PipSources;
}

export interface WheelChoice {
  readonly wheels: Exclude<Wheels, "reused">;
  /** Why, in one line for people. */
  readonly reason: string;
  /** Disk space that the environment takes, with the downloads beside it. */
  readonly needBytes: number;
}

const gib = 2 ** 30;
/** Measured on Linux: a CPU environment is 1.1 GB, one with CUDA 13 5.0 GB; downloads need room beside it. The ROCm figure is an estimate. */
const needs = { cpu: 3 * gib, cuda: 11 * gib, rocm: 20 * gib } as const;

const startLocally = 'pytorch.org, "Start locally", shows its address';

/** Whether pip was told of a place that may hold other builds than the default index. */
const elsewhere = ({ indexUrl, extraIndexUrls, findLinks }: PipSources): boolean =>
  indexUrl !== null || extraIndexUrls.length > 0 || findLinks.length > 0;

/** Throws INSTALL_WHEELS when the default index has no such build for this computer. */
export function chooseWheels(wanted: "auto" | "cuda" | "rocm" | "cpu", sight: WheelSight): WheelChoice {
  const [gpu] = sight.gpus;
  const nvidia = gpu === undefined ? null : `${gpu.name} (driver ${gpu.driver})`;
  const auto = nvidia !== null ? "cuda" : sight.amd && elsewhere(sight.sources) ? "rocm" : "cpu";
  const wheels = wanted === "auto" ? auto : wanted;
  const choice = (reason: string): WheelChoice => ({ wheels, reason, needBytes: needs[wheels] });
  if (wheels === "cpu") {
    const why =
      wanted === "cpu"
        ? "no GPU is used, as asked"
        : `no NVIDIA card is visible${sight.amd ? "; for the AMD card, give PyTorch's ROCm index with --index-url" : ""}`;
    // The default index's only build for Linux brings CUDA along.
    const large =
      sight.platform === "linux" && !elsewhere(sight.sources)
        ? "; without an --index-url of CPU builds this may download CUDA's libraries too"
        : "";
    return choice(`${why}${large}`);
  }
  if (wheels === "rocm") {
    if (!elsewhere(sight.sources))
      throw new Failure(
        "INSTALL_WHEELS",
        `expected a place with PyTorch's ROCm builds, which the default index does not have: give it with --index-url (${startLocally})`,
        { wheels },
      );
    return choice("ROCm build, from the place given");
  }
  if (sight.platform === "darwin")
    throw new Failure("INSTALL_WHEELS", "expected Linux or Windows for CUDA builds; on macOS use --wheels cpu", { wheels });
  if (sight.platform === "win32" && !elsewhere(sight.sources)) {
    throw new Failure(
      "INSTALL_WHEELS",
      `the default index has only CPU builds of PyTorch for Windows. Either reuse the UI's PyTorch (--reuse PATH\\TO\\python.exe), or give PyTorch's CUDA index with --index-url (${startLocally}), or take the CPU build with --wheels cpu`,
      { wheels },
    );
  }
  return choice(`CUDA build${nvidia === null ? ", as asked" : ` for ${nvidia}`}`);
}
