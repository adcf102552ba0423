import { mkdtemp, rm } from "node:fs/promises";
import { freemem, tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { onnxruntimeHost } from "./commands.ts";
import { parityErrors } from "./parity-run.ts";

let folder = "";
beforeAll(async () => void (folder = await mkdtemp(join(tmpdir(), "refit-parity-"))));
afterAll(() => rm(folder, { recursive: true, force: true }));

/** PyTorch holds f16 file, f32 weights and adapters; afterwards the host holds f32 weights and its staging. */
const neededBytes = 9 * 2 ** 30;

describe("parity with diffusers and peft, real size", () => {
  it.skipIf(freemem() < neededBytes)(`the sd15 structure (860 M parameters), base and a LoRA at 0.8 and -0.3, within 1e-3 (needs ${neededBytes / 2 ** 30} GiB of free memory)`, async () => {
    const errors = await parityErrors(onnxruntimeHost(), folder, { graph: "sd15", family: "sd15", shrink: false, size: { batch: 1, height: 32, width: 32 } });
    console.log(`relative errors: ${errors.map((error) => error.toExponential(1)).join(", ")}`);
    expect(Math.max(...errors)).toBeLessThan(1e-3);
  }, 1_800_000);
});
