import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { evaluate, type Scope, type Value } from "../../../sidecar/src/terms/families/index.ts";

interface Corpus {
  readonly shapes: Readonly<Record<string, number[]>>;
  readonly named: Readonly<Record<string, Value>>;
  readonly good: readonly (readonly [text: string, value: Value])[];
  readonly bad: readonly string[];
}
/** Python's evaluator is held to the same: test/python/hosts/refit_graphs/test_descriptions.py. */
const corpus = JSON.parse(readFileSync(new URL("../../expressions.json", import.meta.url), "utf8")) as Corpus;
const scope: Scope = { shapes: new Map(Object.entries(corpus.shapes)), named: (name) => corpus.named[name] ?? null };

describe("evaluate", () => {
  test.each(corpus.good)("%s", (text, value) => {
    expect(evaluate(text, scope)).toEqual(value);
  });

  test.each(corpus.bad)("refuses %j", (text) => {
    expect(() => evaluate(text, scope)).toThrow(SyntaxError);
  });
});
