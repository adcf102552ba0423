// host install: the Python packages of an engine host, in the data folder. In: a kind, where to take Python and packages from, a trial run. Out: an installed host, or what is in the way.
// It never changes the packages of another Python, never shows half an installation, runs no code of a package before all of it is there, and keeps what serves until the new one has been tried.

export { findGpus, hasAmdCompute, parseGpu } from "./gpu.ts";
export { clearUnused, installedHost, pythonOf } from "./hosts-folder.ts";
export { installHost, removeHost } from "./install-host.ts";
export type { HostWish, InstallParts } from "./install-host.ts";
export { findPython, pythonFacts } from "./find-python.ts";
export { readRequirements } from "./requirements.ts";
export { tensorrtSupport } from "./tensorrt-support.ts";
export type { TensorrtSupport } from "./tensorrt-support.ts";
export { chooseWheels } from "./wheels.ts";
export type { WheelChoice, WheelSight } from "./wheels.ts";
export { pythonHosts } from "./types.ts";
export type { Gpu, InstalledHost, InstallMode, PipSources, ProbeResult, PythonFacts, PythonHost, Told, Wheels } from "./types.ts";
