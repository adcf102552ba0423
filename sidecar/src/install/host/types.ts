// An engine host's Python packages as this computer has them, and what an installation needs to know.

export type PythonHost = "torch" | "tensorrt";
export const pythonHosts: readonly PythonHost[] = ["torch", "tensorrt"];

/** `own`: an environment of its own. `reuse`: a side folder in front of another Python's packages, which stay as they are. */
export type InstallMode = "own" | "reuse";

/** `hosts/<kind>.json` in the data folder: which folder is the installed one. Paths inside the hosts folder are kept relative to it. */
export interface InstalledHost {
  readonly formatVersion: 1;
  readonly kind: PythonHost;
  readonly mode: InstallMode;
  readonly python: string;
  readonly paths: readonly string[];
  /** Folders of the hosts folder that it needs: its own first, then the one that it stands on. */
  readonly folders: readonly string[];
  /** Major and minor version of the Python that the packages were chosen for. */
  readonly pythonVersion: string;
  /** Versions of what matters, by package. */
  readonly versions: Readonly<Record<string, string>>;
  readonly wheels: Wheels;
  /** What the trial run found before the host was switched to. */
  readonly device: string;
  readonly sizeBytes: number;
  readonly installedAt: string;
}

export type Wheels = "cuda" | "rocm" | "cpu" | "reused";

/** An NVIDIA card as the driver tells it. */
export interface Gpu {
  readonly name: string;
  /** Compute capability, as 8.9. */
  readonly capability: string;
  readonly driver: string;
  readonly memoryMib: number;
}

/** What a Python says about itself (hosts/python/refit_install/facts.py). */
export interface PythonFacts {
  readonly executable: string;
  readonly version: readonly [number, number, number];
  readonly bits: number;
  readonly venv: boolean;
  readonly pip: string | null;
  readonly packages: Readonly<Record<string, string>>;
}

/** Where pip looks; handed through. */
export interface PipSources {
  readonly indexUrl: string | null;
  readonly extraIndexUrls: readonly string[];
  readonly findLinks: readonly string[];
  /** Only `findLinks`: for computers without a network. */
  readonly noIndex: boolean;
}

/** What a finished trial run tells. */
export interface ProbeResult {
  readonly versions: Readonly<Record<string, string>>;
  /** cpu, cuda, … */
  readonly deviceType: string;
  readonly device: string;
}

/** Progress, for people: one line each. */
export type Told = (line: string) => void;
