// Family descriptions beside shapes. In: protocol/families and names with shapes. Out: names, named sizes, the family with its variant and configuration.
// Must never read a tensor or a file, and never know a family by its name.

export { adapterModules, type AdapterModules } from "./adapter-modules.ts";
export { descriptionOf, diffusersBlocks, namePairs, scopeOf, type NamePair } from "./described.ts";
export { detectDescribed, type DescribedModel } from "./detect.ts";
export { evaluate, fillTemplate, truth, type Scope, type Value } from "./expression.ts";
export { findName, patternOf, renamedBy } from "./pattern.ts";
export { describedStep, familyTitle, samplingOf, type DescribedStep, type FamilySampling } from "./step-table.ts";
