import { describe, expect, test } from "vitest";
import { adapterRow, engineRows, failureRows, historyRows, jobRows, runLine, stateBrief, stateLine } from "../../../page/src/state/rows.ts";
import type { AdapterFacts } from "../../../page/src/state/rows.ts";

const engine = {
  id: "e1",
  family: "sd15",
  precision: "fp16",
  host: "torch",
  device: "cuda:0",
  state: "LIVE",
  reason: null,
  memoryBytes: 3 * 2 ** 20,
  leases: 0,
  lastRefit: { ms: 12.34 },
};
const adapter: AdapterFacts & { readonly id: string } = {
  id: "a",
  kind: "adapter",
  folder: "f",
  name: "sub/Ink.safetensors",
  family: "sdxl",
  kinds: ["lora", "dora"],
  sizeBytes: 2 ** 20,
  delta: "ready",
  problem: null,
};
const job = { title: "warm", state: "running", stage: "build", done: 1, total: 4, remainingMs: 2500, problem: null };

describe("rows of the panel", () => {
  test("an engine is told by its checkpoint and its stack", () => {
    const weights = { checkpoint: "c1", stack: [{ sha256: "a".repeat(64), strength: 0.8 }] };
    const entries = [
      { id: "c1", sha256: null, name: "folder/Dream.safetensors" },
      { id: "a1", sha256: "a".repeat(64), name: "sub/Ink.safetensors" },
    ];
    expect(engineRows([{ ...engine, weights }], entries)[0]).toMatchObject({
      name: "Dream",
      detail: "Ink × 0.8 · sd15 fp16 · torch · 3 MiB · idle · refit 12 ms",
    });
  });

  test("an engine tells state, memory and its last refit", () => {
    expect(engineRows([engine])).toEqual([
      {
        name: "no weights yet",
        state: "LIVE",
        detail: "sd15 fp16 · torch · 3 MiB · idle · refit 12 ms",
        tone: "ok",
        title: "e1 on cuda:0",
      },
    ]);
    const serving = {
      tier: "CUDA graphs",
      refused: [{ steps: "batch 1", reason: "output differs by 0.2" }],
      base: "resident",
      deviceBytes: 1,
      streamedBytes: 3 * 2 ** 20,
      quantised: { format: "fp8", way: "rowwise", weightError: 0.02, outputError: 0.0291 },
    };
    expect(engineRows([{ ...engine, serving }])[0]?.detail).toBe(
      "sd15 fp16 · torch · 3 MiB · idle · CUDA graphs · base resident · 3 MiB streamed · fp8 error 2.9 % · batch 1: output differs by 0.2 · refit 12 ms",
    );
    const losses = [
      { adapter: "a".repeat(64), projection: 0.31, lostShare: 0.8, merged: 3, branched: 0 },
      { adapter: "b".repeat(64), projection: 0.99, lostShare: 0.1, merged: 3, branched: 0 },
    ];
    expect(engineRows([{ ...engine, losses }], [{ sha256: "a".repeat(64), name: "sub/Ink.safetensors" }])[0]?.detail).toBe(
      "sd15 fp16 · torch · 3 MiB · idle · keeps 31 % of Ink.safetensors · refit 12 ms",
    );
    expect(engineRows([{ ...engine, state: "UNKNOWN", reason: "the host was restarted", leases: 1, lastRefit: null }])[0]).toMatchObject({
      tone: "warn",
      detail: "sd15 fp16 · torch · 3 MiB · in use · the host was restarted",
    });
  });

  test("an adapter tells what it is and whether it is ready", () => {
    expect(adapterRow(adapter)).toEqual({
      name: "sub/Ink.safetensors",
      state: "ready",
      detail: "sdxl · lora, dora · 1 MiB",
      tone: "ok",
    });
    expect(adapterRow({ ...adapter, sizeBytes: 1500 })).toMatchObject({ detail: "sdxl · lora, dora · 2 KiB" });
    expect(adapterRow({ ...adapter, delta: "pending" })).toMatchObject({ state: "being prepared", tone: "busy" });
    expect(adapterRow({ ...adapter, problem: { code: "X", message: "the file is cut short" } })).toMatchObject({
      state: "cannot be used",
      detail: "the file is cut short [X]",
      tone: "bad",
    });
  });

  test("work shows progress, ended work is left out", () => {
    expect(jobRows({ jobs: [job], queued: 0 })[0]).toEqual({
      name: "warm",
      state: "running",
      detail: "build · about 2.5 s left",
      tone: "busy",
      progress: 0.25,
    });
    expect(
      jobRows({
        jobs: [
          { ...job, state: "done" },
          { ...job, state: "cancelled" },
          { ...job, state: "failed" },
        ],
        queued: 0,
      }),
    ).toEqual([]);
  });

  test("of much waiting work the first is shown, what runs before what waits, and how much more there is", () => {
    const rows = jobRows({ jobs: [...Array.from({ length: 40 }, () => ({ ...job, state: "queued" })), job], queued: 10_000 });
    expect(rows).toHaveLength(21);
    expect(rows[0]).toMatchObject({ state: "running" });
    expect(rows.at(-1)).toMatchObject({ name: "9981 more" });
  });

  test("failed work is one row a title, with its newest reason, until it is dismissed", () => {
    const failed = (id: string, message: string) => ({ ...job, id, state: "failed", problem: { code: "X", message } });
    const jobs = [failed("1", "no room"), failed("2", "still no room"), { ...failed("3", "other"), title: "export" }, job];
    expect(failureRows(jobs)).toEqual([
      { name: "warm", state: "failed 2 times", detail: "still no room [X]", tone: "bad" },
      { name: "export", state: "failed", detail: "other [X]", tone: "bad" },
    ]);
    expect(failureRows(jobs, new Set(["1", "2", "3"]))).toEqual([]);
  });

  test("refits come newest first, at most twenty", () => {
    const refit = (ms: number) => ({ at: "2026-01-01T00:00:00Z", event: { type: "refit.committed", ms, writes: 5, stack: [{}] } });
    const rows = historyRows([
      ...Array.from({ length: 30 }, (_, index) => refit(index)),
      { at: "2026-01-01T00:00:00Z", event: { type: "refit.started" } },
    ]);
    expect(rows).toHaveLength(20);
    expect(rows[0]).toMatchObject({ state: "29 ms", detail: "5 weights, 1 LoRA" });
    expect(historyRows([{ at: "2026-01-01T00:00:00Z", event: { type: "refit.failed", message: "not finite" } }])[0]).toMatchObject({
      state: "failed",
      tone: "bad",
      detail: "not finite",
    });
  });

  test("the last run tells where it was done and why", () => {
    expect(runLine(null, "ComfyUI")).toEqual([]);
    expect(runLine({ served_by: "local", checkpoint: "base", reason: "no sidecar" }, "ComfyUI")).toEqual([
      { name: "base", state: "in ComfyUI itself", detail: "no sidecar", tone: "warn" },
    ]);
    const report = { steps: 4, step_ms: 40, refit_ms: 3, queue_ms: 250 };
    expect(runLine({ served_by: "engine", checkpoint: "base", report }, "ComfyUI")[0]).toMatchObject({
      state: "on an engine",
      detail: "4 steps of 10 ms · refit 3.0 ms · waited 250 ms",
    });
    const foreign = { ...report, other_family: ["Ink.safetensors was made for sdxl; base is sd15"] };
    expect(runLine({ served_by: "engine", checkpoint: "base", report: foreign }, "ComfyUI")[1]).toEqual({
      name: "Ink.safetensors",
      state: "for another model",
      detail: foreign.other_family[0],
      tone: "warn",
    });
    expect(
      runLine({ served_by: "engine", checkpoint: "base", report: { ...report, refit_ms: 0, queue_ms: 0 } }, "ComfyUI")[0],
    ).toMatchObject({ detail: "4 steps of 10 ms · no refit was needed" });
  });

  test("the accordion's line tells the run, and trouble with the sidecar when nothing is under way", () => {
    const connected = { state: "connected", text: "Connected." };
    const lost = { state: "lost", text: "Trying again." };
    const view = { state: "serving", line: "On an engine.", last_refit_ms: 41.7 };
    expect(stateLine({ connection: connected, view })).toEqual({ state: "serving", text: "On an engine. Last refit: 42 ms." });
    expect(stateLine({ connection: connected, view: { ...view, last_refit_ms: null } }).text).toBe("On an engine.");
    expect(stateLine({ connection: connected, view: { ...view, last_refit_ms: 0 } }).text).toBe("On an engine.");
    expect(stateLine({ connection: connected, view: { ...view, line: "On an engine; refit 42 ms." } }).text).toBe(
      "On an engine; refit 42 ms.",
    );
    expect(stateLine({ connection: lost, view })).toEqual(lost);
    expect(stateLine({ connection: lost, view: { ...view, state: "fallback", line: "Made in the UI." } })).toMatchObject({
      state: "fallback",
      text: "Made in the UI. Last refit: 42 ms.",
    });
    expect(["serving", "lost", "idle", "anything"].map(stateBrief)).toEqual(["on an engine", "no sidecar", "", ""]);
  });
});
