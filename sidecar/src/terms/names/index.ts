// Names: which adapter name means which parameter, and which checkpoint key holds which parameter.
// In: names and shapes from headers. Out: key maps, canonical parameters, families with evidence.
// Must never read a tensor or a file, and never parse an underscored name: names are generated from parameters and looked up.

export { detectAdapterFamily, type AdapterFamily } from "./adapter-family.ts";
export { canonicalNames, type CanonicalNames, type CanonicalParameter, type ParameterPart } from "./canonical.ts";
export { checkpointPrefix } from "./checkpoint-prefix.ts";
export { foreignKey, notForTheEngine } from "./foreign-keys.ts";
export { diffusersStems, keyMap, type KeyMap } from "./key-map.ts";
export { isReduxFile, metadataFamilies, metadataHints } from "./metadata-hints.ts";
export { moduleElements, moduleRank } from "./module-shape.ts";
export type { Parameters } from "./parameters.ts";
export type { StemPair } from "./stem.ts";
export { allSuffixes, kindSuffixes, loraSpellings, moduleName, numberSuffixes, splitKey } from "./suffixes.ts";
