import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it } from "vitest";
import type { Failure } from "../../sidecar/src/failure/index.ts";
import { startHost } from "../../sidecar/src/host/index.ts";
import { Engines } from "../../sidecar/src/refit/index.ts";
import { Leases } from "../../sidecar/src/step/index.ts";
import { record } from "../record.ts";
import { onnxruntimeHost } from "./commands.ts";
import { demoGraph, demoStacks, demoStates, demoStructure, goldenSteps, readSteps, specOf } from "./demo-model.ts";

it("a host killed at any point of a refit or a step comes back, and every answer is the right one bit for bit", async () => {
  const folder = await mkdtemp(join(tmpdir(), "refit-recovery-"));
  const states = await demoStates(folder);
  const { inputs } = readSteps(goldenSteps);
  const engines = new Engines({
    startHost: (_kind, graphs) =>
      startHost(onnxruntimeHost(...graphs.flatMap(({ folder, variant }) => ["--warm-graph", `${variant}:${folder}`]))),
    keepsSpare: () => true,
    budgetBytes: () => 2 ** 30,
    emit: () => undefined,
  });
  const leases = new Leases<null>({ turnMs: () => 2000, graceMs: 20, maxWaiting: 64, idleMs: 60_000, nowMs: () => performance.now() });
  try {
    const answer = async (index: number): Promise<Buffer> => {
      const wanted = states(demoStacks[index] ?? []);
      const acquired = await engines.acquire(specOf(wanted.checkpoint, demoGraph, demoStructure));
      const lease = await leases.open({ ...acquired, wanted, origin: null });
      try {
        return Buffer.from((await lease.step(inputs)).tensors[0]?.data ?? []);
      } finally {
        lease.end();
      }
    };
    const expected: Buffer[] = [];
    for (const index of demoStacks.keys()) expected.push(await answer(index));
    const recoveries: number[] = [];
    const spares: boolean[] = [];
    for (const [kill, delayMs] of [0, 5, 20, 60].entries()) {
      // Every other kill meets a spare that has had time to open its graph; the others come when there is none yet.
      if (kill % 2 === 0) {
        await expect.poll(() => engines.status.hosts["onnxruntime"]?.sparePid ?? 0, { timeout: 60_000 }).toBeGreaterThan(0);
        await new Promise<void>((resolve) => void setTimeout(resolve, 2_000));
      }
      spares.push((engines.status.hosts["onnxruntime"]?.sparePid ?? null) !== null);
      const index = kill % demoStacks.length;
      // From the third death on the supervisor backs off and callers are told at once (HOST_START_FAILED), so that a plugin falls back: no answer, never a wrong one.
      const pending = answer(index).catch((error: Failure) => error);
      await new Promise<void>((resolve) => void setTimeout(resolve, delayMs));
      const killed = performance.now();
      // By pid, as the system would.
      const victim = await engines.host("onnxruntime");
      process.kill(victim.pid, "SIGKILL");
      await victim.ended;
      const outcome = await pending;
      if (!(outcome instanceof Error))
        expect(Buffer.compare(outcome, expected[index] ?? Buffer.alloc(0)), `killed after ${delayMs} ms`).toBe(0);
      else expect(outcome.code, `${outcome.message}, kill ${kill}`).toBe("HOST_START_FAILED");
      await expect.poll(() => engines.status.hosts["onnxruntime"]?.state, { timeout: 60_000 }).toBe("up");
      await expect.poll(() => engines.status.engines[0]?.state.state, { timeout: 60_000 }).toBe("LIVE");
      recoveries.push(performance.now() - killed);
      expect(
        Buffer.compare(await answer((index + 1) % demoStacks.length), expected[(index + 1) % demoStacks.length] ?? Buffer.alloc(0)),
      ).toBe(0);
    }
    expect(engines.status).toMatchObject({ engineBuilds: 1 });
    record("host-recovery", {
      promise: "A killed engine host is LIVE again within 2 s on the demo's model, without a build",
      figure: `killed to LIVE ${recoveries.map((ms, index) => `${Math.round(ms)} ms${spares[index] === true ? "" : " without a spare process"}`).join(", ")}; 0 builds, 0 wrong outputs`,
      test: "test/hosts/recovery.e2e.test.ts",
    });
  } finally {
    await engines.close();
    await rm(folder, { recursive: true, force: true });
  }
}, 300_000);
