// Adapter header + key map of a structure → terms, factors to copy, and what happened to every key.

import type { Family } from "../../catalog/types.ts";
import {
  checkTerm,
  factorNames,
  keyMap,
  splitKey,
  type KeyReport,
  type MergeMode,
  type Parameters,
  type Reading,
  type Shape,
  type Target,
  type Term,
} from "../../terms/index.ts";
import { explainIgnored } from "./explain-ignored.ts";
import { KeyLedger } from "./key-ledger.ts";
import { ModeNotes } from "./mode-notes.ts";
import { metadataScales } from "./peft-metadata.ts";
import { FactorTable, readModule, type ModuleReadings, type PendingFactor } from "./read-module.ts";
import { renameKeys } from "./rename-keys.ts";
import type { AdapterTensor, AdapterTensors } from "./tensors.ts";

export interface RecogniseRequest {
  /** By key of the file. */
  readonly tensors: AdapterTensors;
  readonly metadata: Readonly<Record<string, string>>;
  readonly family: Family;
  readonly parameters: Parameters;
  readonly mode: MergeMode;
}

export interface RecognisedAdapter {
  /** In the order in which ComfyUI would apply them. */
  readonly terms: readonly Term[];
  /** What the file has a change for, of parameters that are there; some of it may have failed. */
  readonly targets: readonly Target[];
  /** Only factors that some term refers to. */
  readonly factors: ReadonlyMap<string, PendingFactor>;
  readonly report: KeyReport;
  /** What the file asks for and this mode does not do. */
  readonly notes: readonly string[];
}

/** What holds a target until a later spelling takes it. */
interface Claim {
  readonly target: Target;
  readonly keys: readonly string[];
  readonly outcome: { readonly term: Term } | { readonly problem: string };
}

/** Never throws on what a file says: every fault is an entry of the report. */
export function recogniseAdapter(request: RecogniseRequest): RecognisedAdapter {
  const { family, parameters, mode } = request;
  const { tensors: named, displaced } = renameKeys(request.tensors, mode);
  const map = keyMap(family, parameters, mode);
  const modules = indexModules(named);
  const ledger = new KeyLedger();
  ledger.fail(displaced, "another key of the file means the same tensor");
  const factors = new FactorTable();
  const claims = new Map<string, Claim>();
  const scales = metadataScales(request.metadata);
  const notes = new ModeNotes();
  for (const [name, target] of map) {
    const tensors = modules.get(name);
    if (!tensors) continue;
    const parameter = parameters.get(target.parameter);
    const view = parameter ? (target.slice ? [target.slice.length, ...parameter.slice(1)] : parameter) : null;
    const read = readModule(tensors, factors, { mode, module: name, view, scales, notes });
    claim(read, tensors, target, claims, ledger);
  }
  const terms = settle(claims, parameters, factors, ledger);
  const needed = new Set(terms.flatMap((term) => factorNames(term)));
  explain(request, named, map, ledger);
  return {
    terms,
    targets: [...claims.values()].map(({ target }) => target).filter(({ parameter }) => parameters.has(parameter)),
    factors: new Map([...factors.factors].filter(([name]) => needed.has(name))),
    report: ledger.report(),
    notes: notes.sentences(),
  };
}

function indexModules(tensors: AdapterTensors): Map<string, Map<string, AdapterTensor>> {
  const modules = new Map<string, Map<string, AdapterTensor>>();
  for (const [name, tensor] of tensors) {
    for (const { stem, suffix } of splitKey(name)) {
      const module = modules.get(stem) ?? new Map<string, AdapterTensor>();
      module.set(suffix, tensor);
      modules.set(stem, module);
    }
  }
  return modules;
}

const keysOf = (tensors: ReadonlyMap<string, AdapterTensor>, suffixes: readonly string[]): string[] =>
  suffixes.map((suffix) => tensors.get(suffix)?.key ?? null).filter((key) => key !== null);

/** Kinds that alpha and DoRA belong to. */
const scalable = (reading: Reading): boolean =>
  !("body" in reading.outcome && (reading.outcome.body.kind === "dense" || reading.outcome.body.kind === "set"));

function claim(
  read: ModuleReadings,
  tensors: ReadonlyMap<string, AdapterTensor>,
  target: Target,
  claims: Map<string, Claim>,
  ledger: KeyLedger,
): void {
  const shared = keysOf(tensors, read.shared);
  if (read.problem !== null)
    return ledger.fail(
      [...tensors.values()].flatMap(({ key }) => key ?? []),
      read.problem,
    );
  if (!read.readings.some(scalable)) ledger.fail(shared, "a scale without factors that it could scale");
  for (const reading of read.readings) {
    const keys = [...keysOf(tensors, reading.used), ...(scalable(reading) ? shared : [])];
    for (const { suffix, reason } of reading.unread ?? []) ledger.fail(keysOf(tensors, [suffix]), reason);
    const own = reading.on === "weight" ? target : biasOf(target);
    if (own === null) {
      ledger.fail(keys, "a bias delta on rows of a fused parameter has no target; ComfyUI drops it");
      continue;
    }
    if ("problem" in reading.outcome && !reading.outcome.holdsTarget) {
      ledger.fail(keys, reading.outcome.problem);
      continue;
    }
    const unread = new Set(
      keysOf(
        tensors,
        (reading.unread ?? []).map(({ suffix }) => suffix),
      ),
    );
    const sourceKeys = keys.filter((key) => !unread.has(key));
    const place = targetKey(own);
    const earlier = claims.get(place);
    if (earlier)
      ledger.fail(
        earlier.keys.filter((key) => !sourceKeys.includes(key)),
        `superseded by ${sourceKeys[0] ?? "a later spelling"}: of several spellings or kinds for one target the last counts`,
      );
    claims.set(place, { target: own, keys: sourceKeys, outcome: outcomeOf(reading, own, sourceKeys, read) });
  }
}

function outcomeOf(reading: Reading, target: Target, sourceKeys: readonly string[], { dora }: ModuleReadings): Claim["outcome"] {
  if ("problem" in reading.outcome) return { problem: reading.outcome.problem };
  const withDora = dora !== null && scalable(reading) && reading.outcome.body.kind !== "channelScale";
  return {
    term: {
      ...reading.outcome.body,
      target,
      sourceKeys,
      ...(withDora ? { doraScale: dora.factor, ...(dora.norm === null ? {} : { doraNorm: dora.norm }) } : {}),
    },
  };
}

function biasOf(target: Target): Target | null {
  if (target.slice !== undefined || target.swapHalves === true || !target.parameter.endsWith(".weight")) return null;
  return { parameter: `${target.parameter.slice(0, -".weight".length)}.bias` };
}

const targetKey = (target: Target): string =>
  `${target.parameter}\n${target.slice ? `${target.slice.start},${target.slice.length}` : ""}\n${target.swapHalves === true ? "swap" : ""}`;

/** Checks every claim that stands against dtypes and shapes. */
function settle(claims: ReadonlyMap<string, Claim>, parameters: Parameters, factors: FactorTable, ledger: KeyLedger): Term[] {
  const terms: Term[] = [];
  for (const { keys, outcome } of claims.values()) {
    const reason = "problem" in outcome ? outcome.problem : problemOf(outcome.term, parameters, factors);
    if (reason !== null) ledger.fail(keys, reason);
    else if ("term" in outcome) {
      ledger.use(keys);
      terms.push(outcome.term);
    }
  }
  return terms;
}

const floats: ReadonlySet<string> = new Set(["F16", "BF16", "F32", "F64", "F8_E4M3", "F8_E5M2"]);

function problemOf(term: Term, parameters: Parameters, factors: FactorTable): string | null {
  const parameter = parameters.get(term.target.parameter);
  if (!parameter) return `the checkpoint has no parameter ${term.target.parameter}`;
  for (const name of factorNames(term)) {
    const dtype = factors.factors.get(name)?.tensor.dtype;
    if (dtype === undefined || !floats.has(dtype)) return `expected a floating-point tensor, got ${dtype ?? "none"}`;
  }
  const shapeOf = (name: string): Shape => factors.factors.get(name)?.shape ?? [];
  return checkTerm(term, shapeOf, parameter);
}

function inExtended(request: RecogniseRequest): { readonly used: ReadonlySet<string>; readonly failed: ReadonlyMap<string, string> } {
  const { used, failed } = recogniseAdapter({ ...request, mode: "extended" }).report;
  return { used: new Set(used), failed: new Map(failed.map(({ key, reason }) => [key, reason])) };
}

function explain(request: RecogniseRequest, named: AdapterTensors, map: ReturnType<typeof keyMap>, ledger: KeyLedger): void {
  let extended: ReturnType<typeof inExtended> | undefined;
  const context = {
    mode: request.mode,
    map,
    extended: () => (extended ??= inExtended(request)),
    has: (name: string) => named.has(name),
  };
  for (const [name, { key }] of named) {
    if (key !== null && !ledger.consumed(key)) ledger.ignore(key, explainIgnored(key, name, context));
  }
}
