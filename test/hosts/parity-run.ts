// One full denoiser call by an engine host against diffusers + peft on the same files, through the same stages that the sidecar uses.

import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { testPython } from "../../tools/python-env.mjs";
import { readCheckpointSource } from "../../sidecar/src/catalog/index.ts";
import { startHost, type HostCommand } from "../../sidecar/src/host/index.ts";
import { LiveEngine } from "../../sidecar/src/refit/index.ts";
import { adapterOf, readSteps, relativeError, specOf, wantedOf } from "./demo-model.ts";
import { floatsOf } from "./fixtures.ts";

const root = fileURLToPath(new URL("../../", import.meta.url));
const run = promisify(execFile);

/** Runs one of the project's Python scripts in the tests' environment. */
export async function python(script: string, ...args: string[]): Promise<void> {
  await run(testPython(root), [join(root, script), ...args], { cwd: root, maxBuffer: 64 * 1024 * 1024 });
}

export interface ParityCase {
  /** Bundle that the checkpoint's shapes come from, or its large relative with `shrink`. */
  readonly graph: string;
  readonly family: "sd15" | "sdxl";
  readonly shrink: boolean;
  readonly size: { readonly batch: number; readonly height: number; readonly width: number };
}

/** Strengths at which the LoRA is compared; the base is compared first, and again at the end. */
export const parityStrengths = [0.8, -0.3] as const;

/** Makes a random checkpoint and LoRA in `folder`, asks PyTorch, then the host: relative errors of base, 0.8, -0.3 and base again. */
export async function parityErrors(command: HostCommand, folder: string, { graph, family, shrink, size }: ParityCase): Promise<number[]> {
  const [checkpoint, lora, reference] = ["checkpoint", "lora", "reference"].map((name) => join(folder, `${name}.safetensors`)) as [
    string,
    string,
    string,
  ];
  const shipped = join(root, "sidecar/graphs", graph);
  await python(
    "test/python/parity/random_model.py",
    "--graph",
    join(shipped, "graph.json"),
    "--out",
    folder,
    ...(shrink ? ["--shrink"] : []),
  );
  const stacks = [[], ...parityStrengths.map((strength) => [[lora, strength]])];
  await python(
    "test/python/parity/reference.py",
    "--checkpoint",
    checkpoint,
    "--config",
    join(folder, "config.json"),
    "--stacks",
    JSON.stringify(stacks),
    "--out",
    reference,
    "--batch",
    String(size.batch),
    "--height",
    String(size.height),
    "--width",
    String(size.width),
  );
  const bundle = shrink ? join(folder, "graph") : shipped;
  if (shrink) await python("tools/graphs/export.py", "--header", checkpoint, "--out", bundle);

  const { structure } = JSON.parse(await readFile(join(bundle, "graph.json"), "utf8")) as { structure: string };
  const source = await readCheckpointSource([checkpoint]);
  const adapter = await adapterOf(lora, source, structure, family, folder);
  const { inputs, outputs } = readSteps(reference);
  const host = await startHost(command);
  try {
    const engine = new LiveEngine(specOf(source, bundle, structure), {
      host: async () => host,
      nowMs: () => performance.now(),
      onState: () => undefined,
      onStarted: () => undefined,
      onLoaded: () => undefined,
      onRecord: () => undefined,
    });
    const errors: number[] = [];
    for (const [index, strength] of [null, ...parityStrengths, null].entries()) {
      const generation = await engine.bring(wantedOf("random", source, strength === null ? [] : [adapter(strength)]));
      const { tensors } = await engine.step(generation, inputs);
      errors.push(
        relativeError(floatsOf(tensors[0]?.data ?? new Uint8Array()), outputs[strength === null ? 0 : index] ?? new Float32Array()),
      );
    }
    return errors;
  } finally {
    await host.close();
  }
}
