// Terms as JSON: the checking constructor. A delta file may come from another user, so nothing in it is believed.

import type { FactorName, Target, Term } from "../types.ts";

type Json = Readonly<Record<string, unknown>>;

/** What is wrong with a value; the header's decoder turns it into DELTA_DAMAGED. */
class Malformed extends Error {}

const limits = { terms: 100_000, dimensions: 8, sourceKeys: 64 };

/** Throws Malformed, naming the term and the field, when `value` is no list of terms. */
export function parseTerms(value: unknown): Term[] {
  if (!Array.isArray(value) || value.length > limits.terms) throw new Malformed("terms is no list, or too long a one");
  return value.map((entry: unknown, index) => {
    try {
      return parseTerm(object(entry, "term"));
    } catch (error) {
      if (error instanceof Malformed) throw new Malformed(`term ${index}: ${error.message}`);
      throw error;
    }
  });
}

function parseTerm(json: Json): Term {
  const base = {
    target: parseTarget(object(json["target"], "target")),
    sourceKeys: list(json["sourceKeys"], "sourceKeys", limits.sourceKeys).map((key) => text(key, "sourceKeys")),
    ...(json["doraScale"] === undefined ? {} : { doraScale: text(json["doraScale"], "doraScale") }),
    ...(json["doraNorm"] === undefined ? {} : { doraNorm: oneOf(json["doraNorm"], ["merged"] as const, "doraNorm") }),
  };
  const name = (field: string): FactorName => text(json[field], field);
  const optional = <F extends string>(field: F): Partial<Record<F, FactorName>> => {
    const result: Partial<Record<F, FactorName>> = {};
    if (json[field] !== undefined) result[field] = name(field);
    return result;
  };
  switch (json["kind"]) {
    case "lowRank":
      return {
        ...base,
        kind: "lowRank",
        scale: scale(json),
        up: name("up"),
        down: name("down"),
        ...optional("mid"),
        ...(json["padTo"] === undefined ? {} : { padTo: dimensions(json["padTo"], "padTo") }),
      };
    case "hadamard":
      if ((json["t1"] === undefined) !== (json["t2"] === undefined)) throw new Malformed("t1 and t2 must come together");
      return {
        ...base,
        kind: "hadamard",
        scale: scale(json),
        w1a: name("w1a"),
        w1b: name("w1b"),
        w2a: name("w2a"),
        w2b: name("w2b"),
        ...optional("t1"),
        ...optional("t2"),
      };
    case "kronecker":
      return {
        ...base,
        kind: "kronecker",
        scale: scale(json),
        ...optional("w1"),
        ...optional("w1a"),
        ...optional("w1b"),
        ...optional("w2"),
        ...optional("w2a"),
        ...optional("w2b"),
        ...optional("t2"),
      };
    case "glora":
      return { ...base, kind: "glora", scale: scale(json), a1: name("a1"), a2: name("a2"), b1: name("b1"), b2: name("b2") };
    case "orthogonal":
      return {
        ...base,
        kind: "orthogonal",
        variant: oneOf(json["variant"], ["oft", "boft"] as const, "variant"),
        blocks: name("blocks"),
        constraint: json["constraint"] === null ? null : number(json["constraint"], "constraint"),
        ...optional("rescale"),
        ...(json["strengthOnce"] === true ? { strengthOnce: true as const } : {}),
      };
    case "dense":
    case "set":
      return { ...base, kind: json["kind"], value: name("value") };
    case "channelScale":
      return { ...base, kind: "channelScale", value: name("value"), axis: oneOf(json["axis"], ["rows", "columns"] as const, "axis") };
    default:
      throw new Malformed(`unknown kind ${JSON.stringify(json["kind"])}`);
  }
}

function parseTarget(json: Json): Target {
  const parameter = text(json["parameter"], "parameter");
  if (json["slice"] === undefined) return { parameter, ...(json["swapHalves"] === true ? { swapHalves: true } : {}) };
  const slice = object(json["slice"], "slice");
  return {
    parameter,
    slice: { start: count(slice["start"], "slice.start"), length: count(slice["length"], "slice.length") },
    ...(json["swapHalves"] === true ? { swapHalves: true } : {}),
  };
}

const scale = (json: Json): number => number(json["scale"], "scale");

export function object(value: unknown, field: string): Json {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw new Malformed(`${field} is no object`);
  return Object.fromEntries(Object.entries(value));
}

export function text(value: unknown, field: string): string {
  if (typeof value !== "string") throw new Malformed(`${field} is no text`);
  return value;
}

function number(value: unknown, field: string): number {
  if (typeof value !== "number" || !Number.isFinite(value)) throw new Malformed(`${field} is no finite number`);
  return value;
}

export function count(value: unknown, field: string): number {
  if (typeof value !== "number" || !Number.isSafeInteger(value) || value < 0) throw new Malformed(`${field} is no count`);
  return value;
}

export function list(value: unknown, field: string, most: number): readonly unknown[] {
  if (!Array.isArray(value) || value.length > most) throw new Malformed(`${field} is no list, or longer than ${most}`);
  return value;
}

function dimensions(value: unknown, field: string): number[] {
  return list(value, field, limits.dimensions).map((dim) => count(dim, field));
}

export function oneOf<const T extends string>(value: unknown, allowed: readonly T[], field: string): T {
  const found = allowed.find((candidate) => candidate === value);
  if (found === undefined) throw new Malformed(`${field} is none of ${allowed.join(", ")}`);
  return found;
}
