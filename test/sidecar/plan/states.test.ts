import { describe, expect, it } from "vitest";
import { nextState } from "../../../sidecar/src/plan/index.ts";
import type { DesiredState, EngineEvent, EngineState } from "../../../sidecar/src/plan/index.ts";

const A: DesiredState = { checkpoint: "x", stack: [] };
const B: DesiredState = { checkpoint: "x", stack: [{ sha256: "L1", strength: 1 }] };
const C: DesiredState = { checkpoint: "y", stack: [] };

const states = {
  LIVE: { state: "LIVE", weights: A },
  NEEDS_REFIT: { state: "NEEDS_REFIT", weights: A, reason: "r" },
  NEEDS_RECOMPILE: { state: "NEEDS_RECOMPILE", weights: A, reason: "r" },
  NEEDS_RECOMPILE_EMPTY: { state: "NEEDS_RECOMPILE", weights: null, reason: "r" },
  UNKNOWN: { state: "UNKNOWN", reason: "r" },
} as const satisfies Record<string, EngineState>;

const events = {
  desiredSame: { type: "desired", desired: A },
  desiredStack: { type: "desired", desired: B },
  desiredCheckpoint: { type: "desired", desired: C },
  committed: { type: "committed", weights: B },
  refitFailed: { type: "refitFailed", reason: "why" },
  uncovered: { type: "uncovered", reason: "why" },
  lost: { type: "lost", reason: "why" },
  written: { type: "written", weights: B },
} as const satisfies Record<string, EngineEvent>;

const live = (weights: DesiredState): EngineState => ({ state: "LIVE", weights });
const unknown = (reason: string): EngineState => ({ state: "UNKNOWN", reason });
const needsRefit = (reason: string): EngineState => ({ state: "NEEDS_REFIT", weights: A, reason });
const recompile = (weights: DesiredState | null): EngineState => ({ state: "NEEDS_RECOMPILE", weights, reason: "why" });
const stackReason = "another stack is desired (0 → 1 adapters)";
const checkpointReason = "another checkpoint is desired";
const impossible = "impossible";

/** Every state against every event. */
const table: Record<keyof typeof states, Record<keyof typeof events, EngineState | typeof impossible>> = {
  LIVE: {
    desiredSame: live(A),
    desiredStack: needsRefit(stackReason),
    desiredCheckpoint: needsRefit(checkpointReason),
    committed: live(B),
    refitFailed: live(A),
    uncovered: recompile(A),
    lost: unknown("why"),
    written: live(B),
  },
  NEEDS_REFIT: {
    desiredSame: live(A),
    desiredStack: needsRefit(stackReason),
    desiredCheckpoint: needsRefit(checkpointReason),
    committed: live(B),
    refitFailed: needsRefit("why"),
    uncovered: recompile(A),
    lost: unknown("why"),
    written: live(B),
  },
  NEEDS_RECOMPILE: {
    desiredSame: live(A),
    desiredStack: needsRefit(stackReason),
    desiredCheckpoint: needsRefit(checkpointReason),
    committed: impossible,
    refitFailed: states.NEEDS_RECOMPILE,
    uncovered: recompile(A),
    lost: unknown("why"),
    written: live(B),
  },
  NEEDS_RECOMPILE_EMPTY: {
    desiredSame: unknown("left NEEDS_RECOMPILE without known weights; only a full refit with checksums leaves UNKNOWN"),
    desiredStack: unknown("left NEEDS_RECOMPILE without known weights; only a full refit with checksums leaves UNKNOWN"),
    desiredCheckpoint: unknown("left NEEDS_RECOMPILE without known weights; only a full refit with checksums leaves UNKNOWN"),
    committed: impossible,
    refitFailed: states.NEEDS_RECOMPILE_EMPTY,
    uncovered: recompile(null),
    lost: unknown("why"),
    written: live(B),
  },
  UNKNOWN: {
    desiredSame: states.UNKNOWN,
    desiredStack: states.UNKNOWN,
    desiredCheckpoint: states.UNKNOWN,
    committed: impossible,
    refitFailed: unknown("why"),
    uncovered: recompile(null),
    lost: unknown("why"),
    written: live(B),
  },
};

describe("nextState", () => {
  for (const [from, row] of Object.entries(table) as [keyof typeof states, (typeof table)["LIVE"]][]) {
    for (const [event, expected] of Object.entries(row) as [keyof typeof events, EngineState | typeof impossible][]) {
      it(`${from} + ${event} → ${expected === impossible ? "a programmer's error" : expected.state}`, () => {
        if (expected === impossible) expect(() => nextState(states[from], events[event])).toThrow(TypeError);
        else expect(nextState(states[from], events[event])).toEqual(expected);
      });
    }
  }

  it("has no way out of UNKNOWN but written and uncovered", () => {
    for (const [name, event] of Object.entries(events)) {
      if (name === "committed") continue;
      const next = nextState(states.UNKNOWN, event).state;
      expect(next).toBe(name === "written" ? "LIVE" : name === "uncovered" ? "NEEDS_RECOMPILE" : "UNKNOWN");
    }
  });
});
