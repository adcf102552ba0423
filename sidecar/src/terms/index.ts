// The term algebra: what an adapter does to a model's parameters, as data, and the arithmetic that applies it.
// In: names, shapes, terms, factors as values. Out: targets, checked terms, merged parameters.
// Must never touch a file, a process or a clock, and must never know a stage.

export { checksSize, checksTensorName, encodeChecks, factorCrc, type FactorCheck } from "./delta-file/checks.ts";
export {
  decodeDeltaHeader,
  deltaFormatVersion,
  deltaMetadataKey,
  encodeDeltaHeader,
  isDeltaFile,
  type DeltaHeader,
} from "./delta-file/delta-header.ts";
export { openDelta, readDelta, type Delta } from "./delta-file/open-delta.ts";
export { viewShape, type Addend } from "./evaluate/addend.ts";
export { changeNorm, termRank } from "./evaluate/change-norm.ts";
export { checkTerm, checkTerms, factorNames, type TermProblem } from "./evaluate/check-terms.ts";
export { f32Factors } from "./evaluate/factors.ts";
export { addLoss, keptOf, noLoss, type Kept, type LossSums, type MergeLoss } from "./evaluate/loss.ts";
export { lossOfStored, mergeParameter, type MergeOutcome, type MergeRequest } from "./evaluate/merge-parameter.ts";
export { asBytes, bytesPerElement, notFiniteOf } from "./evaluate/round.ts";
export type { NotFinite } from "./evaluate/round.ts";
export { changesShape, targetsDigest, touchedParameters } from "./facts.ts";
export {
  describedStep,
  detectDescribed,
  findName,
  familyTitle,
  samplingOf,
  type DescribedModel,
  type DescribedStep,
  type FamilySampling,
} from "./families/index.ts";
export { elements, type F32Tensor, type FactorReader, type Shape } from "./kinds/kind.ts";
export type { ModuleTensors, Reading, RecogniseContext, TermBody } from "./kinds/recognise.ts";
export { recognisers } from "./kinds/table.ts";
export * from "./names/index.ts";
export { maxStrength, readStrength, strengthProblem, type WrittenStrength } from "./strength.ts";
export type * from "./types.ts";
