// install: puts the plugin into a UI, and takes it out again. In: the UI's folder, the plugin's folder, the sidecar's entry file. Out: a plan as data, and its doing.
// Planning is pure; only look.ts reads the disk and only apply.ts changes it. It never touches a file that is not the plugin's own.

export { applyPlan } from "./apply.ts";
export { planGpuHost } from "./gpu-host.ts";
export type { GpuHostPlan, GpuHostSight } from "./gpu-host.ts";
export { look } from "./look.ts";
export { planInstall, planUninstall, pluginFolderName } from "./plan.ts";
export type { Surroundings } from "./ui-settings.ts";
export type { InstallAction, InstallPlan, Interface, Named, Sight } from "./types.ts";
