/** Every module that these files take values from, directly or not: paths of this repository, names of packages. */
export function reached(starts: readonly string[]): Set<string>;
/** The files among these whose values can come from the addon. */
export function withAddon(files: readonly string[]): string[];
/** Parts whose tests start processes and compare what these say; their numbers are compared in the other parts. */
export const processParts: readonly string[];
/** All test files of the sidecar's parts, relative to the root; `apart`: those that the pass without the addon leaves out. */
export function sidecarTests(): {
  readonly all: readonly string[];
  readonly selected: readonly string[];
  readonly apart: readonly string[];
};
