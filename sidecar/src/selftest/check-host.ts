import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { native } from "@refit-sidecar/native";
import type { FrameTensor } from "@refit-sidecar/protocol";
import type { HostCommand } from "../host/index.ts";
import { openEngine } from "./engine-under-test.ts";
import type { EngineUnderTest } from "./engine-under-test.ts";
import { checkSize } from "./check-size.ts";
import { hasRun } from "./hardware.ts";
import { expectSo, median, Rows, withoutPaths } from "./rows.ts";
import type { RealSize } from "./real-model.ts";
import { openSmallModel } from "./small-model.ts";
import type { Precision, SmallModel, SmallStack } from "./small-model.ts";
import type { HostReport, Row } from "./types.ts";

export interface CheckOptions {
  readonly command: HostCommand;
  /** Null: f32 on a CPU, f16 elsewhere. */
  readonly precision: Precision | null;
  readonly onRow: (row: Row) => void;
  /** Repetitions behind a median. */
  readonly repeats: number;
  /** A family whose real size is timed too, with random weights; null: none. */
  readonly size: RealSize | null;
}

const A: SmallStack = [["only-sevens", 1]];
const B: SmallStack = [
  ["only-sevens", 0.5],
  ["thick-strokes", -0.3],
];
const none: SmallStack = [];
/** 16-bit weights and arithmetic move latents of size 1 to 3 by this much over sixteen steps. */
const halfTolerance = 0.25;
/** A merge on the device against one on the CPU, in the output: another order of f32 sums, one rounding to 16 bits, or a neighbouring code. */
const bakedTolerance = { f32: 1e-3, f16: 0.05, bf16: 0.2, fp8: 0.5, int8: 0.5, nvfp4: 1 } as const;
const recoveryMs = 120_000;

async function floatsOf({ bytes, dtype }: { readonly bytes: Buffer; readonly dtype: FrameTensor["dtype"] }): Promise<Float32Array> {
  if (dtype === "f32") return new Float32Array(Uint8Array.from(bytes).buffer);
  const count = bytes.byteLength / 2;
  const out = new Uint8Array(count * 4);
  await native.convert(bytes, dtype === "f16" ? "F16" : "BF16", out, "F32", count);
  return new Float32Array(out.buffer);
}

/** Largest difference; infinite when a value is no number or a length differs. */
function largestDifference(got: Float32Array, expected: Float32Array): number {
  if (got.length !== expected.length) return Infinity;
  return got.reduce(
    (largest, value, index) => (Number.isFinite(value) ? Math.max(largest, Math.abs(value - (expected[index] ?? 0))) : Infinity),
    0,
  );
}

/** Everything that a self-test asks of one host, on the small model. Never throws for what the host does: that is in the rows. */
export async function checkHost({ command, precision, onRow, repeats, size }: CheckOptions): Promise<HostReport> {
  const folder = await mkdtemp(join(tmpdir(), "refit-selftest-"));
  const log: string[] = [];
  let engine: EngineUnderTest | null = null;
  try {
    const model = await openSmallModel(folder);
    const probe = await openEngine(command, model.spec(command.kind, precision ?? "f32"), (line) => void log.push(line));
    const about = await probe.host().then(
      (host) => host.about,
      (error: unknown) => (error instanceof Error ? error : new Error(String(error))),
    );
    await probe.close();
    if (about instanceof Error) {
      const rows = new Rows(false, onRow);
      await rows.check("start", "the host starts", () => Promise.reject(about));
      return { host: command.kind, about: null, precision: precision ?? "", tier: null, rows: rows.rows, ok: false };
    }
    const chosen = precision ?? (about.device.type === "cpu" ? "f32" : "f16");
    const rows = new Rows(!(await hasRun(command.kind, about.device)), onRow);
    await rows.check("start", "the host starts", async () => ({
      detail: `${about.device.name}; ${Object.entries(about.versions)
        .map(([name, version]) => `${name} ${version}`)
        .join(", ")}`,
    }));
    engine = await openEngine(command, model.spec(command.kind, chosen), (line) => void log.push(line));
    await checkEngine(engine, model, chosen, rows, repeats);
    let tier = await engine.tier().catch(() => null);
    if (size !== null) {
      await engine.close();
      tier = (await checkSize({ command, size, precision: chosen, folder, repeats, rows })) ?? tier;
    }
    const { versions, device, memory } = about;
    return {
      host: command.kind,
      about: { versions, device: { ...device, name: withoutPaths(device.name) }, memory },
      precision: chosen,
      tier,
      rows: rows.rows,
      ok: rows.rows.every(({ status }) => status !== "fail"),
    };
  } finally {
    await engine?.close();
    await rm(folder, { recursive: true, force: true });
  }
}

async function checkEngine(engine: EngineUnderTest, model: SmallModel, precision: Precision, rows: Rows, repeats: number): Promise<void> {
  const base = model.wanted("base", none);
  const outputs = new Map<string, Buffer>();
  const output = async (): Promise<Buffer> => (await engine.step(model.inputs)).bytes;
  const draw = () => model.draw(async (inputs) => floatsOf(await engine.step(inputs)));
  const near = async (name: "base" | "only-sevens"): Promise<number> => {
    const limit = precision === "f32" ? model.tolerance : halfTolerance;
    const error = largestDifference(await draw(), model.reference(name));
    expectSo(error < limit, `expected the pictures that PyTorch drew, within ${limit}; the latents differ by ${error}`);
    return error;
  };

  const loaded = await rows.check("load", "an engine is built and the checkpoint loaded", async () => {
    const ms = await engine.bring(base);
    return { detail: `${ms.toFixed(0)} ms, first load`, figures: { load_ms: ms } };
  });
  if (!loaded) return rows.skip("rest", "everything else", "no engine was loaded");
  const stepped = await rows.check("step", "steps draw what PyTorch drew (16 steps, 4 seeds)", async () => {
    const error = await near("base");
    outputs.set("base", await output());
    return { detail: `largest difference of the latents ${error.toExponential(1)}`, figures: { latent_error: error } };
  });
  if (!stepped) rows.skip("rest of stepping", "outputs after a refit", "steps do not work; weights are compared all the same");
  const weightsOfBase = await engine.weights();

  await rows.check("refit", "a LoRA is refitted into the live engine", async () => {
    const builds = engine.builds();
    const ms = await engine.bring(model.wanted("base", A));
    expectSo(engine.builds() === builds, "expected the same engine after the refit; it was built again");
    const error = stepped ? await near("only-sevens") : 0;
    if (stepped) outputs.set("A", await output());
    outputs.set("weights of A", Buffer.from(await engine.weights()));
    return {
      detail: `${engine.writesOfLastRefit()} weights in ${ms.toFixed(1)} ms, no rebuild; latents differ from PyTorch's by ${error.toExponential(1)}`,
      figures: { refit_ms: ms, writes: engine.writesOfLastRefit(), latent_error: error },
    };
  });
  await rows.check("A-B-A", "A, then B, then A gives A bit for bit", async () => {
    await engine.bring(model.wanted("base", B));
    expectSo((await engine.weights()) !== outputs.get("weights of A")?.toString(), "expected other weights for another stack");
    await engine.bring(model.wanted("base", A));
    expectSo((await engine.weights()) === outputs.get("weights of A")?.toString(), "expected the weights of A bit for bit");
    return { detail: `every weight by SHA-256${await sameOutput(engine, outputs.get("A"), output)}` };
  });
  await rows.check("strength", "a strength is changed and changed back", async () => {
    const ms = await engine.bring(model.wanted("base", [["only-sevens", 0.25]]));
    const weaker = await engine.weights();
    expectSo(weaker !== outputs.get("weights of A")?.toString(), "expected other weights at another strength");
    await engine.bring(model.wanted("base", A));
    expectSo((await engine.weights()) === outputs.get("weights of A")?.toString(), "expected the weights of A bit for bit");
    return { detail: `${ms.toFixed(1)} ms; changed back, every weight is the one from before`, figures: { strength_ms: ms } };
  });
  await rows.check("base", "back to the checkpoint alone, bit for bit", async () => {
    const ms = await engine.bring(base);
    expectSo((await engine.weights()) === weightsOfBase, "expected the weights of the checkpoint bit for bit");
    return { detail: `${ms.toFixed(1)} ms${await sameOutput(engine, outputs.get("base"), output)}`, figures: { base_ms: ms } };
  });
  await rows.check("checkpoint", "another checkpoint on the same engine, and back", async () => {
    const builds = engine.builds();
    const ms = await engine.bring(model.wanted("baked", none));
    expectSo(engine.builds() === builds, "expected the same engine for another checkpoint; it was built again");
    let error = 0;
    if (stepped) {
      const answer = await engine.step(model.inputs);
      error = largestDifference(
        await floatsOf(answer),
        await floatsOf({ bytes: outputs.get("A") ?? Buffer.alloc(0), dtype: answer.dtype }),
      );
    }
    const limit = bakedTolerance[precision];
    expectSo(
      error < limit,
      `expected a checkpoint with the LoRA merged into its file to step like the LoRA, within ${limit}; the outputs differ by ${error}`,
    );
    await engine.bring(base);
    expectSo((await engine.weights()) === weightsOfBase, "expected the weights of the first checkpoint bit for bit");
    return {
      detail: `${ms.toFixed(1)} ms, no rebuild; the LoRA merged into a file steps like the LoRA${error === 0 ? ", bit for bit" : `, within ${error.toExponential(1)}`}`,
      figures: { checkpoint_ms: ms, baked_error: error },
    };
  });
  await rows.check("refused", "a file that changed behind our back is refused; the old weights keep serving", async () => {
    const refused = await engine.bring(model.replaced).then(
      () => null,
      (error: unknown) => error,
    );
    expectSo(
      refused instanceof Error && "code" in refused && refused.code === "HOST_FILE_CHANGED",
      `expected HOST_FILE_CHANGED, got ${refused instanceof Error ? refused.message : "no error"}`,
    );
    expectSo((await engine.weights()) === weightsOfBase, "expected the old weights");
    return { detail: `HOST_FILE_CHANGED${await sameOutput(engine, outputs.get("base"), output)}` };
  });
  await rows.check("recover", "the host is killed and comes back with the same weights", async () => {
    await engine.bring(model.wanted("base", A));
    const host = await engine.host();
    const began = performance.now();
    process.kill(host.pid, "SIGKILL");
    await host.ended;
    const back = await comeBack(engine, model);
    const ms = performance.now() - began;
    expectSo(back === outputs.get("weights of A")?.toString(), "expected the weights from before the kill bit for bit");
    return {
      detail: `${ms.toFixed(0)} ms from the kill to the same weights${await sameOutput(engine, outputs.get("A"), output)}`,
      figures: { recovery_ms: ms },
    };
  });
  await rows.check("times", `times on the small model (medians of ${repeats}; not a picture's speed)`, async () => {
    const swaps: number[] = [];
    for (let turn = 0; turn < repeats; turn += 1) swaps.push(await engine.bring(model.wanted("base", turn % 2 === 0 ? B : A)));
    const steps: number[] = [];
    for (let turn = 0; stepped && turn < repeats; turn += 1) steps.push((await engine.step(model.inputs)).ms);
    const figures = { swap_ms: median(swaps), ...(stepped ? { step_ms: median(steps) } : {}) };
    return {
      detail: `swap ${figures.swap_ms.toFixed(1)} ms${stepped ? `, step ${median(steps).toFixed(1)} ms` : ""}: from the call to the answer, with planning and pipes`,
      figures,
    };
  });
}

/** In words, whether the output is the one from before. A faster way of stepping that has taken over meanwhile may round otherwise: then only weights are compared. */
async function sameOutput(engine: EngineUnderTest, expected: Buffer | undefined, output: () => Promise<Buffer>): Promise<string> {
  if (expected === undefined) return "";
  const same = Buffer.compare(await output(), expected) === 0;
  const tier = await engine.tier();
  const changes = tier !== null && tier !== "eager";
  expectSo(same || changes, "the weights are the same, and the output of a step is not");
  return same ? ", and the output of a step" : `; the output differs in rounding (${tier ?? ""} took over between steps)`;
}

/** Asks until the supervisor has started the host again: during its back-off calls fail at once. */
async function comeBack(engine: EngineUnderTest, model: SmallModel): Promise<string> {
  const deadline = performance.now() + recoveryMs;
  for (;;) {
    try {
      await engine.bring(model.wanted("base", A));
      return await engine.weights();
    } catch (error) {
      if (performance.now() > deadline) throw error;
      await new Promise((wake) => setTimeout(wake, 50));
    }
  }
}
