import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { native } from "../../../native/ts/index.ts";
import type { FrameTensor } from "../../../protocol/src/index.ts";
import type { Failure } from "../../../sidecar/src/failure/index.ts";
import type { Host, HostCommand } from "../../../sidecar/src/host/index.ts";
import { leaveHost, sharedHost } from "./shared-host.ts";
import { planRefit } from "../../../sidecar/src/plan/index.ts";
import type { Wanted } from "../../../sidecar/src/refit/index.ts";
import { demoGraph, demoStacks, demoStates, goldenSteps, readSteps, relativeError, type NamedStack } from "../demo-model.ts";
import { floatsOf, noise, randomValues, stackFiles, stackItems, writeAdapter, type Stacked } from "../fixtures.ts";

/** Denoiser calls on the shipped demo model, against PyTorch and against themselves. */
export function steps(command: HostCommand, tolerance: number, churn: { readonly steps: number; readonly changes: number }): void {
  describe("steps", () => {
    let host: Host;
    let folder = "";
    let states: (stack: NamedStack) => Wanted;
    const { inputs, outputs } = readSteps(goldenSteps);
    beforeAll(async () => {
      host = await sharedHost(command);
      folder = await mkdtemp(join(tmpdir(), "refit-steps-"));
      states = await demoStates(folder);
      await load("shared");
    });
    afterAll(async () => {
      await leaveHost(host);
      await rm(folder, { recursive: true, force: true });
    });

    const load = async (engine: string, stack: NamedStack = []): Promise<void> => {
      const { checkpoint, adapters } = states(stack);
      await host.call("load", {
        engine,
        graph: { folder: demoGraph, variant: "fp32" },
        weightDtype: "f32",
        checkpoint,
        stack: adapters.map(({ file }) => file),
      });
    };
    const prepare = async (engine: string, from: NamedStack, to: NamedStack, generation: number): Promise<string> => {
      const [before, after] = [states(from), states(to)];
      const touches = new Map([...before.adapters, ...after.adapters].map((adapter) => [adapter.file.sha256, adapter.touches]));
      const result = planRefit(before.desired, after.desired, touches, {
        names: Object.keys(after.checkpoint.parameters),
        fixed: new Set(),
      });
      if (result.kind !== "refit") throw new TypeError(`expected a refit, the plan is ${result.kind}`);
      return (
        await host.call("prepare", {
          engine,
          generation,
          plan: result.plan,
          checkpoint: after.checkpoint,
          stack: after.adapters.map(({ file }) => file),
        })
      ).token;
    };
    const refit = async (engine: string, from: NamedStack, to: NamedStack, generation: number): Promise<number> =>
      (await host.call("commit", { engine, token: await prepare(engine, from, to, generation) })).generation;
    const step = async (engine: string, generation: number, tensors: readonly FrameTensor[] = inputs): Promise<Uint8Array> => {
      const reply = await host.call("step", { engine, generation }, { tensors });
      expect(reply.tensors).toMatchObject([
        { name: "out_sample", dtype: "f32", shape: tensors.find(({ name }) => name === "sample")?.shape },
      ]);
      return reply.tensors[0]?.data ?? new Uint8Array();
    };
    const near = (got: Uint8Array, expected: Float32Array | undefined): void =>
      expect(relativeError(floatsOf(got), expected ?? new Float32Array())).toBeLessThan(tolerance);

    it("equals diffusers and peft on the base and on every stack, loaded or refitted", async () => {
      await load("parity");
      let generation = 1;
      near(await step("parity", generation), outputs[0]);
      for (const [index, stack] of demoStacks.entries()) {
        if (index === 0) continue;
        generation = await refit("parity", demoStacks[index - 1] ?? [], stack, generation);
        const refitted = await step("parity", generation);
        near(refitted, outputs[index]);
        await load(`loaded ${index}`, stack);
        expect(Buffer.compare(await step(`loaded ${index}`, 1), refitted)).toBe(0);
      }
    });

    it("adapters that touch single matrices: refitted equals loaded, back equals base, also after the weights left the device", async () => {
      const block = "input_blocks.1.1.transformer_blocks.0";
      const adapter = await writeAdapter(folder, "one", [
        { parameter: `${block}.attn1.to_q.weight`, up: randomValues([32, 2], 1), down: randomValues([2, 32], 2), scale: 0.5 },
      ]);
      const other = await writeAdapter(folder, "other", [
        { parameter: `${block}.ff.net.2.weight`, up: randomValues([32, 2], 3), down: randomValues([2, 128], 4), scale: 0.5 },
      ]);
      const { checkpoint, desired } = states([]);
      const touches = new Map(
        [adapter, other].map(({ sha256, terms }) => [sha256, { parameters: terms.map(({ parameter }) => parameter), reshapes: [] }]),
      );
      const graph = { folder: demoGraph, variant: "fp32" } as const;
      const change = async (from: readonly Stacked[], to: readonly Stacked[], generation: number): Promise<void> => {
        const result = planRefit({ ...desired, stack: stackItems(from) }, { ...desired, stack: stackItems(to) }, touches, {
          names: Object.keys(checkpoint.parameters),
          fixed: new Set(),
        });
        if (result.kind !== "refit") throw new TypeError(`expected a refit, the plan is ${result.kind}`);
        const { token } = await host.call("prepare", { engine: "one", generation, plan: result.plan, checkpoint, stack: stackFiles(to) });
        await host.call("commit", { engine: "one", token });
      };
      await load("one");
      const base = await step("one", 1);
      const [first, second] = [
        [{ adapter, strength: 1 }],
        [
          { adapter, strength: 0.5 },
          { adapter: other, strength: 1 },
        ],
      ];
      await change([], first, 1);
      await change(first, second, 2);
      const refitted = await step("one", 3);
      await host.call("load", { engine: "one loaded", graph, weightDtype: "f32", checkpoint, stack: stackFiles(second) });
      expect(Buffer.compare(await step("one loaded", 1), refitted)).toBe(0);
      expect((await host.call("checksums", { engine: "one" })).sha256).toEqual(
        (await host.call("checksums", { engine: "one loaded" })).sha256,
      );
      await host.call("offload", { engine: "one" });
      expect(Buffer.compare(await step("one", 3), refitted)).toBe(0);
      await change(second, [], 3);
      expect(Buffer.compare(await step("one", 4), base)).toBe(0);
    });

    it("A → B → A → none gives the outputs of A and of none bit for bit", async () => {
      const [A, B] = [demoStacks[1] ?? [], demoStacks[3] ?? []];
      await load("aba");
      const none = await step("aba", 1);
      await refit("aba", [], A, 1);
      const first = await step("aba", 2);
      expect(Buffer.compare(first, none)).not.toBe(0);
      await refit("aba", A, B, 2);
      await step("aba", 3);
      await refit("aba", B, A, 3);
      expect(Buffer.compare(await step("aba", 4), first)).toBe(0);
      await refit("aba", A, [], 4);
      expect(Buffer.compare(await step("aba", 5), none)).toBe(0);
    });

    it(`${churn.steps} steps while the stack changes ${churn.changes} times: every output equals exactly one requested stack`, async () => {
      const stacks: NamedStack[] = [
        ...demoStacks,
        [["thick-strokes", 1]],
        [
          ["thick-strokes", -0.3],
          ["only-sevens", 0.8],
        ],
      ];
      const expected: Buffer[] = [];
      for (const [index, stack] of stacks.entries()) {
        await load(`fresh ${index}`, stack);
        expected.push(Buffer.from(await step(`fresh ${index}`, 1)));
      }
      expect(new Set(expected.map((bytes) => bytes.toString("hex"))).size).toBe(stacks.length);
      await load("churn");
      const held = new Map([[1, 0]]);
      let generation = 1;
      let changes = 0;
      let done = 0;
      const next = noise(5);
      const change = async (): Promise<void> => {
        while (changes < churn.changes) {
          const from = held.get(generation) ?? 0;
          const to = (from + 1 + Math.floor(((next() + 1) / 2) * (stacks.length - 1))) % stacks.length;
          const token = await prepare("churn", stacks[from] ?? [], stacks[to] ?? [], generation);
          // Known before the commit: a step that is answered after it may be on either side.
          held.set(generation + 1, to);
          generation = (await host.call("commit", { engine: "churn", token })).generation;
          changes += 1;
        }
      };
      const sample = async (): Promise<void> => {
        while (done < churn.steps || changes < churn.changes) {
          const asked = generation;
          const output = await step("churn", asked).catch((error: Failure) => error);
          if (output instanceof Uint8Array) {
            expect(Buffer.compare(output, expected[held.get(asked) ?? -1] ?? Buffer.alloc(0)), `generation ${asked}`).toBe(0);
            done += 1;
          } else expect(output.code).toBe("HOST_GENERATION_STALE");
        }
      };
      await Promise.all([change(), sample()]);
      expect(changes).toBe(churn.changes);
      expect(done).toBeGreaterThanOrEqual(churn.steps);
    }, 600_000);

    it("takes any batch, height, width and token count", async () => {
      const random = (name: string, shape: number[]): FrameTensor => ({
        name,
        dtype: "f32",
        shape,
        data: new Uint8Array(Float32Array.from({ length: shape.reduce((product, dimension) => product * dimension, 1) }, noise(3)).buffer),
      });
      for (const [batch, height, width, tokens] of [
        [1, 8, 8, 4],
        [3, 8, 16, 4],
        [1, 9, 7, 77],
        [1, 24, 32, 4],
      ] as const) {
        const call = [
          random("sample", [batch, 4, height, width]),
          random("timestep", [batch]),
          random("encoder_hidden_states", [batch, tokens, 768]),
        ];
        expect(floatsOf(await step("shared", 1, call)).every((value) => Number.isFinite(value))).toBe(true);
      }
    });

    it("takes float inputs in f16 and bf16 too", async () => {
      for (const [dtype, container] of [
        ["f16", "F16"],
        ["bf16", "BF16"],
      ] as const) {
        const narrowed = await Promise.all(
          inputs.map(async (tensor): Promise<FrameTensor> => {
            const count = tensor.data.byteLength / 4;
            const data = new Uint8Array(count * 2);
            await native.convert(tensor.data, "F32", data, container, count);
            return { ...tensor, dtype, data };
          }),
        );
        const reply = await host.call("step", { engine: "shared", generation: 1 }, { tensors: narrowed });
        expect(relativeError(floatsOf(reply.tensors[0]?.data ?? new Uint8Array()), outputs[0] ?? new Float32Array())).toBeLessThan(0.05);
      }
    });

    it("takes ControlNet residuals: zeros change nothing, others do", async () => {
      const residuals = (fill: number): FrameTensor[] => {
        const shapes = [
          [32, 8],
          [32, 8],
          [32, 8],
          [32, 4],
          [64, 4],
          [64, 4],
          [64, 2],
          [64, 2],
          [64, 2],
          [64, 1],
          [64, 1],
          [64, 1],
        ] as const;
        const one = (name: string, channels: number, size: number): FrameTensor => ({
          name,
          dtype: "f32",
          shape: [2, channels, size, size],
          data: new Uint8Array(new Float32Array(2 * channels * size * size).fill(fill).buffer),
        });
        return [...shapes.map(([channels, size], index) => one(`down_residual_${index}`, channels, size)), one("mid_residual", 64, 1)];
      };
      near(await step("shared", 1, [...inputs, ...residuals(0)]), outputs[0]);
      const pushed = floatsOf(await step("shared", 1, [...inputs, ...residuals(0.5)]));
      expect(relativeError(pushed, outputs[0] ?? new Float32Array())).toBeGreaterThan(0.01);
      near(await step("shared", 1), outputs[0]);
    });

    it.each<[string, string, (tensors: readonly FrameTensor[]) => FrameTensor[]]>([
      ["HOST_INPUT_INVALID", "a missing input", (tensors) => tensors.filter(({ name }) => name !== "timestep")],
      [
        "HOST_INPUT_INVALID",
        "an unknown input",
        (tensors) => [...tensors, { name: "cats", dtype: "f32", shape: [1], data: new Uint8Array(4) }],
      ],
      [
        "HOST_INPUT_INVALID",
        "a weight as an input",
        (tensors) => [...tensors, { name: "input_blocks.0.0.bias", dtype: "f32", shape: [32], data: new Uint8Array(128) }],
      ],
      [
        "HOST_INPUT_INVALID",
        "another rank",
        (tensors) => tensors.map((tensor) => (tensor.name === "sample" ? { ...tensor, shape: [2, 4, 64] } : tensor)),
      ],
      [
        "HOST_INPUT_INVALID",
        "another channel count",
        (tensors) => tensors.map((tensor) => (tensor.name === "sample" ? { ...tensor, shape: [4, 2, 8, 8] } : tensor)),
      ],
      [
        "HOST_INPUT_INVALID",
        "another element type",
        (tensors) => tensors.map((tensor) => (tensor.name === "sample" ? { ...tensor, dtype: "i64", shape: [1, 4, 8, 8] } : tensor)),
      ],
    ])("%s for %s, and the engine goes on", async (code, _, change) => {
      await expect(host.call("step", { engine: "shared", generation: 1 }, { tensors: change(inputs) })).rejects.toMatchObject({ code });
      near(await step("shared", 1), outputs[0]);
    });

    it("HOST_GENERATION_STALE for a step on weights that are gone, or not there yet", async () => {
      await load("stale");
      await expect(step("stale", 2)).rejects.toMatchObject({ code: "HOST_GENERATION_STALE" });
      await refit("stale", [], demoStacks[1] ?? [], 1);
      await expect(step("stale", 1)).rejects.toMatchObject({ code: "HOST_GENERATION_STALE" });
      near(await step("stale", 2), outputs[1]);
    });

    it("a failed prepare leaves the outputs bit for bit", async () => {
      const before = await step("shared", 1);
      const after = states(demoStacks[1] ?? []);
      const stack = after.adapters.map(({ file }) => ({ ...file, delta: join(folder, "gone.delta") }));
      const plan = { from: states([]).desired, to: after.desired, full: false, writes: [] };
      await expect(
        host.call("prepare", { engine: "shared", generation: 1, plan, checkpoint: after.checkpoint, stack }),
      ).rejects.toMatchObject({ code: "HOST_FILE_MISSING" });
      expect(Buffer.compare(await step("shared", 1), before)).toBe(0);
    });

    it("answers a step that was cancelled while it waited, one way or the other", async () => {
      const controller = new AbortController();
      const all = Array.from({ length: 4 }, (_, index) =>
        host.call("step", { engine: "shared", generation: 1 }, { tensors: inputs, ...(index === 3 ? { signal: controller.signal } : {}) }),
      );
      controller.abort();
      const outcomes = await Promise.allSettled(all);
      expect(outcomes.slice(0, 3).map(({ status }) => status)).toEqual(["fulfilled", "fulfilled", "fulfilled"]);
      const last = outcomes[3];
      if (last?.status === "rejected") expect(last.reason).toMatchObject({ code: "HOST_CANCELLED" });
    });

    it("a changed checkpoint file of another structure is refused before anything is loaded", async () => {
      const { checkpoint } = states([]);
      const { "out.2.weight": _, ...parameters } = checkpoint.parameters;
      await expect(
        host.call("load", {
          engine: "odd",
          graph: { folder: demoGraph, variant: "fp32" },
          weightDtype: "f32",
          checkpoint: { ...checkpoint, parameters },
          stack: [],
        }),
      ).rejects.toMatchObject({ code: "HOST_GRAPH_INVALID" });
      await expect(
        host.call("load", { engine: "odd", graph: { folder: demoGraph, variant: "fp99" }, weightDtype: "f32", checkpoint, stack: [] }),
      ).rejects.toMatchObject({ code: "HOST_GRAPH_INVALID" });
    });
  });
}
