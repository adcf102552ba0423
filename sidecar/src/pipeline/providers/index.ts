// Where engine hosts run. In: options. Out: devices, and hosts on them. It never decides what runs where: placement does, the same for every provider.

export { localProvider } from "./local.ts";
export { rayProvider } from "./ray.ts";
export type { RayFigures } from "./ray.ts";
