import { statfs } from "node:fs/promises";
import { median, expectSo } from "./rows.ts";
import type { Rows } from "./rows.ts";
import { openEngine } from "./engine-under-test.ts";
import type { EngineUnderTest } from "./engine-under-test.ts";
import type { HostCommand } from "../host/index.ts";
import { openRealModel, realModelBytes } from "./real-model.ts";
import type { RealModel, RealSize } from "./real-model.ts";
import type { Precision } from "./small-model.ts";

export interface SizeOptions {
  readonly command: HostCommand;
  readonly size: RealSize;
  readonly precision: Precision;
  readonly folder: string;
  readonly repeats: number;
  readonly rows: Rows;
}

/** How long a faster way of stepping is waited for while it is built in the background. */
const compileMs = 300_000;
const pollMs = 1_000;

const list = (values: readonly number[]): string =>
  `${median(values).toFixed(1)} ms (${Math.min(...values).toFixed(1)} to ${Math.max(...values).toFixed(1)})`;

async function repeated(times: number, work: (turn: number) => Promise<number>): Promise<number[]> {
  const values: number[] = [];
  for (let turn = 0; turn < times; turn += 1) values.push(await work(turn));
  return values;
}

/** Times and bits on a model of real size with random weights, written into `folder` and removed with it. Answers the last tier, null when nothing was loaded. */
export async function checkSize({ command, size, precision, folder, repeats, rows }: SizeOptions): Promise<string | null> {
  const [need, { bavail, bsize }] = [await realModelBytes(size), await statfs(folder)];
  if (bavail * bsize < need) {
    rows.skip(
      `${size}-load`,
      `${size} of real size`,
      `its random weights take ${(need / 1e9).toFixed(1)} GB in the system's temporary folder, which has ${((bavail * bsize) / 1e9).toFixed(1)} GB free`,
    );
    return null;
  }
  const model = await openRealModel(folder, size);
  const engine = await openEngine(command, model.spec(command.kind, precision), () => undefined);
  try {
    const ok = await rows.check(`${size}-load`, `${size} of real size is loaded`, async () => {
      const ms = await engine.bring(model.wanted(0, null));
      return { detail: `${(ms / 1000).toFixed(1)} s from a file that was just written; ${model.what}`, figures: { load_ms: ms } };
    });
    if (ok) await checkLoaded(engine, model, size, repeats, rows);
    return ok ? await engine.tier() : null;
  } finally {
    await engine.close();
  }
}

async function checkLoaded(engine: EngineUnderTest, model: RealModel, size: RealSize, repeats: number, rows: Rows): Promise<void> {
  const steps = async (id: string, title: string): Promise<boolean> =>
    rows.check(id, title, async () => {
      const first = (await engine.step(model.inputs)).ms;
      const values = await repeated(repeats, async () => (await engine.step(model.inputs)).ms);
      return {
        detail: `${list(values)}, first ${first.toFixed(0)} ms; tier: ${(await engine.tier()) ?? "the host has one way of stepping"}`,
        figures: { first_step_ms: first, step_ms: median(values) },
      };
    });
  if (!(await steps(`${size}-step`, `${size}: a step`))) return rows.skip(`${size}-rest`, `${size}: the rest`, "its steps fail");
  if (await waitForCompiled(engine, model)) await steps(`${size}-step-compiled`, `${size}: a step after the background build`);

  const base = await engine.weights(model.sample);
  await rows.check(`${size}-swap`, `${size}: a LoRA in, its strength changed, and back to the checkpoint`, async () => {
    const swaps = await repeated(repeats, async (turn) => {
      const ms = await engine.bring(model.wanted(0, 1));
      expectSo(turn > 0 || (await engine.weights(model.sample)) !== base, "expected other weights after the LoRA");
      await engine.bring(model.wanted(0, null));
      return ms;
    });
    await engine.bring(model.wanted(0, 1));
    const strengths = await repeated(repeats, (turn) => engine.bring(model.wanted(0, 0.25 + (turn % 4) / 4)));
    const backs = await repeated(repeats, async () => {
      await engine.bring(model.wanted(0, 0.5));
      return engine.bring(model.wanted(0, null));
    });
    expectSo((await engine.weights(model.sample)) === base, "expected the weights of the checkpoint bit for bit");
    return {
      detail: `in ${list(swaps)}, strength ${list(strengths)}, back ${list(backs)}; weights back bit for bit (${model.sample.length} layers by SHA-256)`,
      figures: { swap_ms: median(swaps), strength_ms: median(strengths), base_ms: median(backs) },
    };
  });
  await rows.check(`${size}-checkpoint`, `${size}: another checkpoint on the same engine, and back`, async () => {
    const builds = engine.builds();
    const changes = await repeated(3, async (turn) => engine.bring(model.wanted(turn % 2 === 0 ? 1 : 0, null)));
    await engine.bring(model.wanted(0, null));
    expectSo(engine.builds() === builds, "expected the same engine; it was built again");
    expectSo((await engine.weights(model.sample)) === base, "expected the weights of the first checkpoint bit for bit");
    return {
      detail: `${list(changes)}, no rebuild, files in the page cache where memory allows; weights back bit for bit`,
      figures: { checkpoint_ms: median(changes) },
    };
  });
  await steps(`${size}-step-after`, `${size}: a step after all of this`);
}

/** Steps now and then until a background build has taken over; false when none is under way or it takes too long. */
async function waitForCompiled(engine: EngineUnderTest, model: RealModel): Promise<boolean> {
  const first = await engine.tier();
  const deadline = performance.now() + compileMs;
  while ((await engine.compiling()) && performance.now() < deadline) {
    await engine.step(model.inputs);
    await new Promise((wake) => setTimeout(wake, pollMs));
  }
  return (await engine.tier()) !== first;
}
