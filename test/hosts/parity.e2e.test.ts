import { mkdtemp, rm } from "node:fs/promises";
import { freemem, tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { onnxruntimeHost } from "./commands.ts";
import { demoCheckpoint, demoGraph, demoStacks, goldenSteps, loraFile, readSteps, relativeError } from "./demo-model.ts";
import { parityErrors, python } from "./parity-run.ts";

let folder = "";
beforeAll(async () => void (folder = await mkdtemp(join(tmpdir(), "refit-parity-"))));
afterAll(() => rm(folder, { recursive: true, force: true }));

/** PyTorch holds f16 file, f32 weights and adapters; afterwards the host holds f32 weights and its staging. */
const neededBytes = 9 * 2 ** 30;

describe("parity with diffusers and peft", () => {
  it("a small SDXL structure with y, base and a LoRA at 0.8 and -0.3, within 1e-3", async () => {
    const errors = await parityErrors(onnxruntimeHost("--threads", "1"), join(folder, "sdxl"), {
      graph: "sdxl",
      family: "sdxl",
      shrink: true,
      size: { batch: 2, height: 16, width: 12 },
    });
    console.log(`relative errors: ${errors.map((error) => error.toExponential(1)).join(", ")}`);
    expect(Math.max(...errors)).toBeLessThan(1e-3);
  }, 600_000);

  it("the golden steps of the conformance suite are what diffusers and peft compute today", async () => {
    const again = join(folder, "demo-steps.safetensors");
    const stacks = demoStacks.map((stack) => stack.map(([name, strength]) => [loraFile(name), strength]));
    await python(
      "test/python/parity/reference.py",
      "--checkpoint",
      demoCheckpoint,
      "--config",
      join(demoGraph, "graph.json"),
      "--stacks",
      JSON.stringify(stacks),
      "--out",
      again,
      "--tokens",
      "4",
    );
    const [kept, made] = [readSteps(goldenSteps), readSteps(again)];
    expect(made.inputs.map(({ name }) => name)).toEqual(kept.inputs.map(({ name }) => name));
    for (const [index, output] of made.outputs.entries())
      expect(relativeError(kept.outputs[index] ?? new Float32Array(), output)).toBeLessThan(1e-5);
  }, 600_000);

  it.skipIf(freemem() < neededBytes)(
    `the sd15 structure (860 M parameters), base and a LoRA at 0.8 and -0.3, within 1e-3 (needs ${neededBytes / 2 ** 30} GiB of free memory)`,
    async () => {
      const errors = await parityErrors(onnxruntimeHost(), join(folder, "sd15"), {
        graph: "sd15",
        family: "sd15",
        shrink: false,
        size: { batch: 1, height: 32, width: 32 },
      });
      console.log(`relative errors: ${errors.map((error) => error.toExponential(1)).join(", ")}`);
      expect(Math.max(...errors)).toBeLessThan(1e-3);
    },
    1_800_000,
  );
});
