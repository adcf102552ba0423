// Engines without a graph: the torch host has a module of its own for each described family, so a checkpoint's shapes are all it needs.

import { Failure } from "../../failure/index.ts";
import type { EngineSpec } from "../../refit/index.ts";
import { describedStep, familyTitle, type DescribedStep } from "../../terms/index.ts";
import type { StepTable } from "./graphs.ts";
import { weightDtypes } from "../answers/views.ts";
import type { ResolvedCheckpoint } from "./resolver.ts";

export interface HostedRequest {
  /** Host that was asked for, or that "auto" means. */
  readonly kind: string;
  /** The torch host can be started. */
  readonly installed: boolean;
  readonly precision: "auto" | keyof typeof weightDtypes;
  readonly residuals: boolean;
}

/** No other host has a module or a graph of that family. */
export const torchAlone = ({ family, parameters }: ResolvedCheckpoint["target"]): boolean =>
  describedStep(family, parameters)?.torchAlone === true;

/** The torch host needs no graph of the checkpoint's structure. */
export const servedWithoutGraph = ({ family, parameters }: ResolvedCheckpoint["target"]): boolean =>
  describedStep(family, parameters) !== null;

/**
 * Null: an engine of that host runs a graph.
 * Throws ENGINE_HOST where only the torch host can serve it and another is meant, ENGINE_PRECISION when residual inputs are wanted.
 */
export function hostedSpec(
  { target }: ResolvedCheckpoint,
  { kind, installed, precision, residuals }: HostedRequest,
): { readonly spec: EngineSpec; readonly table: StepTable } | null {
  const step = describedStep(target.family, target.parameters);
  if (step === null) return null;
  const title = familyTitle(target.family);
  if (kind !== "torch") {
    if (!step.torchAlone) return null;
    const how = installed ? "choose the host torch for it" : 'run "refit-sidecar host install torch", or pass --python';
    throw new Failure("ENGINE_HOST", `${title} is served by the torch host alone, and this run would go to ${kind}; ${how}`, {
      family: target.family,
      host: kind,
    });
  }
  if (residuals)
    throw new Failure("ENGINE_PRECISION", `engines of ${title} have no ControlNet inputs; prepare without residuals`, {
      family: target.family,
    });
  return { table: { inputs: step.inputs, outputs: step.outputs, residuals: [] }, spec: specOf(target, step, precision, kind) };
}

function specOf(
  target: ResolvedCheckpoint["target"],
  step: DescribedStep,
  precision: HostedRequest["precision"],
  hostKind: string,
): EngineSpec {
  // Names without values only say what a checkpoint is.
  const shapes = Object.fromEntries([...target.parameters].filter(([, shape]) => !shape.includes(0)));
  const wanted = precision === "auto" ? (step.precisions[0] ?? "bf16") : precision;
  return {
    structure: target.structure,
    precision: weightDtypes[wanted],
    profile: "any",
    hostKind,
    graph: null,
    steps: true,
    parameters: { names: Object.keys(shapes), fixed: new Set(), shapes },
  };
}
