import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Failure } from "../../../sidecar/src/failure/index.ts";
import { planRefit, sameState, stateKey } from "../../../sidecar/src/plan/index.ts";
import type { DesiredState, EngineParameters, RefitPlan, StackItem } from "../../../sidecar/src/plan/index.ts";

const engine: EngineParameters = { names: ["a", "b", "c", "d"], fixed: new Set() };
const touching = (...parameters: string[]) => ({ parameters, reshapes: [] });
const touches = new Map([
  ["L1", touching("a", "b")],
  ["L2", touching("b", "c")],
  ["L0", touching()],
]);
const state = (checkpoint: string, ...stack: [string, number][]): DesiredState => ({
  checkpoint,
  stack: stack.map(([sha256, strength]) => ({ sha256, strength })),
});
const writes = (from: DesiredState | null, to: DesiredState): string => {
  const result = planRefit(from, to, touches, engine);
  return result.kind === "refit"
    ? `${result.plan.full ? "full " : ""}${result.plan.writes.map((write) => `${write.parameter}:${write.reason}`).join(" ")}`
    : result.kind;
};

describe("planRefit", () => {
  it("writes everything when the weights are unknown or the checkpoint differs", () => {
    expect(writes(null, state("x", ["L1", 1]))).toBe("full a:touched b:touched c:base d:base");
    expect(writes(state("y"), state("x"))).toBe("full a:base b:base c:base d:base");
  });
  it("writes only touched layers", () => expect(writes(state("x"), state("x", ["L1", 1]))).toBe("a:touched b:touched"));
  it("restores what was touched before and is not now", () =>
    expect(writes(state("x", ["L1", 1]), state("x", ["L2", 1]))).toBe("a:restored b:touched c:touched"));
  it("leaves layers alone on which both stacks agree", () =>
    expect(writes(state("x", ["L1", 1], ["L2", 1]), state("x", ["L1", 1], ["L2", 0.5]))).toBe("b:touched c:touched"));
  it("takes the order of a stack seriously where adapters overlap, and only there", () =>
    expect(writes(state("x", ["L1", 1], ["L2", 1]), state("x", ["L2", 1], ["L1", 1]))).toBe("b:touched"));
  it("another limit of loss is a refit without writes: the host finds which adapters go another way", () => {
    const from = state("x", ["L1", 1]);
    expect(writes(from, { ...from, adapterLoss: 0.5 })).toBe("");
    expect(writes({ ...from, adapterLoss: 0.5 }, { ...from, adapterLoss: 0.5 })).toBe("nothing");
  });
  it("plans nothing for the same state", () => expect(writes(state("x", ["L1", 1]), state("x", ["L1", 1]))).toBe("nothing"));
  it("plans an empty refit when only the name of the state changes", () => expect(writes(state("x"), state("x", ["L0", 1]))).toBe(""));
  it("keeps an adapter at strength 0: some kinds set values whatever the strength", () =>
    expect(writes(state("x"), state("x", ["L1", 0]))).toBe("a:touched b:touched"));

  it("fails with PLAN_PARAMETER_UNKNOWN for an adapter of another structure", () => {
    const strange = new Map([["L9", touching("z")]]);
    expect(() => planRefit(state("x"), state("x", ["L9", 1]), strange, engine)).toThrow(
      expect.objectContaining({ code: "PLAN_PARAMETER_UNKNOWN" }),
    );
    expect(() => planRefit(state("x"), state("x", ["L9", 1]), strange, engine)).toThrow(Failure);
  });
  it("throws TypeError for an adapter whose touched parameters nobody gave", () =>
    expect(() => planRefit(null, state("x", ["L8", 1]), touches, engine)).toThrow(TypeError));
  it("names the parameters that the engine cannot change, never plans part of it", () => {
    expect(planRefit(state("x"), state("x", ["L1", 1]), touches, { ...engine, fixed: new Set(["b"]) })).toMatchObject({
      kind: "recompile",
      parameters: ["b"],
    });
    expect(planRefit(state("x"), state("x", ["L2", 1]), touches, { ...engine, fixed: new Set(["a"]) })).toMatchObject({ kind: "refit" });
    expect(planRefit(state("y"), state("x"), touches, { ...engine, fixed: new Set(["d"]) })).toMatchObject({
      kind: "recompile",
      parameters: ["d"],
    });
    expect(planRefit(null, state("x"), touches, { ...engine, fixed: new Set(["d"]) })).toMatchObject({ kind: "refit" });
    expect(planRefit(null, state("x", ["L1", 1]), touches, { ...engine, fixed: new Set(["a"]) })).toMatchObject({
      kind: "recompile",
      parameters: ["a"],
    });
  });
});

it("planRefit asks for a recompile when an adapter gives a parameter another shape", () => {
  const padding = new Map([["P", { parameters: ["a", "b"], reshapes: ["b"] }]]);
  expect(planRefit(state("x"), state("x", ["P", 1]), padding, engine)).toMatchObject({ kind: "recompile", parameters: ["b"] });
});

/** Weights as the list of what was applied to each parameter: the plainest engine there is. */
function execute(weights: ReadonlyMap<string, string>, plan: RefitPlan): Map<string, string> {
  const next = new Map(weights);
  for (const { parameter } of plan.writes) next.set(parameter, pristine(plan.to, parameter));
  return next;
}
function pristine(to: DesiredState, parameter: string): string {
  return `${to.checkpoint}|${to.stack
    .filter((item) => touches.get(item.sha256)?.parameters.includes(parameter))
    .map((item) => `${item.sha256}@${item.strength}`)
    .join("+")}`;
}
const anyItem = fc.record({
  sha256: fc.constantFrom("L0", "L1", "L2"),
  strength: fc.constantFrom(-0.3, 0, 0.8, 1),
}) satisfies fc.Arbitrary<StackItem>;
const anyState = fc.record({ checkpoint: fc.constantFrom("x", "y"), stack: fc.array(anyItem, { maxLength: 4 }) });

describe("a sequence of plans", () => {
  it("always gives the weights of a fresh engine, whatever happened between", () => {
    fc.assert(
      fc.property(fc.array(anyState, { minLength: 1, maxLength: 12 }), (sequence) => {
        let weights = new Map<string, string>();
        let present: DesiredState | null = null;
        for (const to of sequence) {
          const result = planRefit(present, to, touches, engine);
          if (result.kind === "refit") weights = execute(weights, result.plan);
          present = to;
          for (const name of engine.names) expect(weights.get(name)).toBe(pristine(to, name));
        }
      }),
    );
  });
  it("never writes a parameter twice and never one that stays as it is", () => {
    fc.assert(
      fc.property(anyState, anyState, (from, to) => {
        const result = planRefit(from, to, touches, engine);
        if (result.kind !== "refit") return;
        const names = result.plan.writes.map((write) => write.parameter);
        expect(new Set(names).size).toBe(names.length);
        if (!result.plan.full) for (const name of names) expect(pristine(from, name)).not.toBe(pristine(to, name));
      }),
    );
  });
});

describe("sameState", () => {
  it("agrees with stateKey", () => {
    fc.assert(fc.property(anyState, anyState, (a, b) => void expect(sameState(a, b)).toBe(stateKey(a) === stateKey(b))));
    expect(sameState(state("x", ["L1", 1]), state("x", ["L1", 1]))).toBe(true);
  });
});
