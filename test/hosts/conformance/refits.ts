import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { native, writeSafetensors } from "../../../native/ts/index.ts";
import { startHost, type HostCommand } from "../../../sidecar/src/host/index.ts";
import { bytesOf, floatsOf, fullPlan, merged, noise, prefix, sourceOf, stackFiles, writeCheckpoint, type Stacked } from "../fixtures.ts";
import { model, names, openBench, otherModel, shapes, type Bench } from "./bench.ts";

/** Load, refit and read back, without a graph. */
export function refits(command: HostCommand, tolerance: number): void {
  describe("refits", () => {
    let bench: Bench;
    beforeAll(async () => void (bench = await openBench(command)));
    afterAll(() => bench.close());

    const expectMerged = async (engine: string, stack: readonly Stacked[], base = model): Promise<void> => {
      const got = await bench.read(engine);
      const wanted = merged(base, stack);
      expect(Object.keys(got)).toEqual(names);
      for (const name of names) {
        const largest = Math.max(...Array.from(wanted[name] ?? [], Math.abs));
        const error = Math.max(...Array.from(got[name] ?? [], (value, index) => Math.abs(value - (wanted[name]?.[index] ?? NaN))));
        expect(error, name).toBeLessThanOrEqual(tolerance * largest);
      }
    };

    it("load writes the checkpoint's values exactly and starts at generation 1", async () => {
      const loaded = await bench.load("exact");
      expect(loaded).toMatchObject({ parameters: names.length, generation: 1 });
      expect(loaded.bytes).toBe(4 * Object.values(model).reduce((sum, { data }) => sum + data.length, 0));
      for (const [name, values] of Object.entries(await bench.read("exact")))
        expect([...values], name).toEqual([...(model[name]?.data ?? [])]);
    });

    it("load with a stack gives the same bits as load and refit", async () => {
      const stack = [
        { adapter: bench.a, strength: 0.8 },
        { adapter: bench.b, strength: -0.3 },
      ];
      await bench.load("fresh", stack);
      await expectMerged("fresh", stack);
      await bench.load("stepwise");
      await bench.refit("stepwise", [], stack, 1);
      expect(await bench.checksums("stepwise")).toEqual(await bench.checksums("fresh"));
    });

    it("prepare changes nothing live, commit changes everything at once, and reports what it did", async () => {
      await bench.load("phases");
      const before = await bench.checksums("phases");
      const prepared = await bench.prepare("phases", [], [{ adapter: bench.a, strength: 1 }], 1);
      expect(prepared.writes).toBe(2);
      expect(prepared.bytesWritten).toBe(4 * (16 * 16 + 16 * 12));
      expect(await bench.checksums("phases")).toEqual(before);
      const committed = await bench.host.call("commit", { engine: "phases", token: prepared.token });
      expect(committed).toMatchObject({ writes: 2, generation: 2 });
      await expectMerged("phases", [{ adapter: bench.a, strength: 1 }]);
    });

    it("a refit without a checkpoint keeps the engine's own, also after another one was committed", async () => {
      const stack = [{ adapter: bench.a, strength: 0.8 }];
      await bench.load("own");
      const full = await bench.host.call("prepare", {
        engine: "own",
        generation: 1,
        plan: fullPlan(model, stack, "other"),
        checkpoint: bench.other,
        stack: stackFiles(stack),
      });
      const { generation } = await bench.host.call("commit", { engine: "own", token: full.token });
      const kept = await bench.host.call("prepare", {
        engine: "own",
        generation,
        plan: fullPlan(model, [], "other"),
        checkpoint: null,
        stack: [],
      });
      await bench.host.call("commit", { engine: "own", token: kept.token });
      await expectMerged("own", [], otherModel);
    });

    it("A → B → A → none gives A and none bit for bit", async () => {
      const A = [{ adapter: bench.a, strength: 0.8 }];
      const B = [
        { adapter: bench.b, strength: 1.3 },
        { adapter: bench.a, strength: -0.3 },
      ];
      await bench.load("aba");
      const none = await bench.checksums("aba");
      let generation = await bench.refit("aba", [], A, 1);
      const first = await bench.checksums("aba");
      expect(first).not.toEqual(none);
      generation = await bench.refit("aba", A, B, generation);
      await expectMerged("aba", B);
      generation = await bench.refit("aba", B, A, generation);
      expect(await bench.checksums("aba")).toEqual(first);
      expect(await bench.refit("aba", A, [], generation)).toBe(5);
      expect(await bench.checksums("aba")).toEqual(none);
    });

    it("200 random stack changes always end in the weights of a fresh engine", async () => {
      const next = noise(7);
      const pick = (count: number): number => Math.floor(((next() + 1) / 2) * count);
      const choices: Stacked[][] = [[]];
      for (const strengths of [
        [1, 0.5],
        [-0.3, 2],
      ]) {
        for (const adapters of [[bench.a], [bench.b], [bench.c], [bench.a, bench.b], [bench.b, bench.a], [bench.c, bench.a]])
          choices.push(adapters.map((adapter, index) => ({ adapter, strength: strengths[index] ?? 1 })));
      }
      const fresh = await Promise.all(
        choices.map(async (stack, index) => {
          await bench.load(`fresh-${index}`, stack);
          return bench.checksums(`fresh-${index}`);
        }),
      );
      await bench.load("walk");
      let at = 0;
      let generation = 1;
      for (let change = 0; change < 200; change++) {
        const to = pick(choices.length);
        if (to === at) continue;
        generation = await bench.refit("walk", choices[at] ?? [], choices[to] ?? [], generation);
        at = to;
        expect(await bench.checksums("walk")).toEqual(fresh[at]);
      }
    });

    it.each(["F16", "BF16"] as const)("reads a %s checkpoint exactly", async (dtype) => {
      const checkpoint = await writeCheckpoint(join(bench.folder, `${dtype}.safetensors`), model, dtype);
      await bench.host.call("load", { engine: dtype, graph: null, parameters: shapes, weightDtype: "f32", checkpoint, stack: [] });
      // The fixture's values are exact in both.
      for (const [name, values] of Object.entries(await bench.read(dtype)))
        expect([...values], name).toEqual([...(model[name]?.data ?? [])]);
    });

    it("multiplies scaled fp8 by its scale", async () => {
      const path = join(bench.folder, "fp8.safetensors");
      const data = Uint8Array.of(0x38, 0xb8, 0x40, 0x00, 0x30, 0x7e, 0xfe, 0x01);
      const scale = Float32Array.of(0.75);
      await writeSafetensors(path, [
        { name: `${prefix}w.weight`, dtype: "F8_E4M3", shape: [2, 4], data },
        { name: `${prefix}w.scale_weight`, dtype: "F32", shape: [], data: bytesOf(scale) },
      ]);
      const plain = await sourceOf(path, { "w.weight": { shape: [2, 4] } }, "F8_E4M3");
      const parameters = {
        "w.weight": {
          shape: [2, 4],
          pieces: [
            {
              file: 0,
              key: `${prefix}w.weight`,
              dtype: "F8_E4M3" as const,
              start: 0,
              length: 2,
              swapHalves: false,
              storage: { format: "scaled" as const, scale: `${prefix}w.scale_weight` },
            },
          ],
        },
      };
      await bench.host.call("load", {
        engine: "fp8",
        graph: null,
        parameters: { "w.weight": [2, 4] },
        weightDtype: "f32",
        checkpoint: { ...plain, parameters },
        stack: [],
      });
      const { tensors } = await bench.host.call("readBack", { engine: "fp8", parameters: ["w.weight"] });
      expect([...floatsOf(tensors[0]?.data ?? new Uint8Array())]).toEqual(
        [1, -1, 2, 0, 0.5, 448, -448, 2 ** -9].map((value) => value * 0.75),
      );
    });

    it("puts a parameter together that the file keeps in pieces, one of them with its halves exchanged", async () => {
      const path = join(bench.folder, "pieces.safetensors");
      const rows = [
        [1, 2],
        [3, 4],
        [5, 6],
        [7, 8],
      ];
      const tensor = (name: string, list: number[][]) => ({
        name,
        dtype: "F32" as const,
        shape: [list.length, 2],
        data: bytesOf(Float32Array.from(list.flat())),
      });
      await writeSafetensors(path, [tensor("q", rows.slice(0, 2)), tensor("k", [rows[3] ?? [], rows[2] ?? []])]);
      const source = await sourceOf(path, {}, "F32");
      const piece = { file: 0, dtype: "F32" as const, length: 2 };
      const parameters = {
        "qk.weight": {
          shape: [4, 2],
          pieces: [
            { ...piece, key: "q", start: 0, swapHalves: false },
            { ...piece, key: "k", start: 2, swapHalves: true },
          ],
        },
      };
      await bench.host.call("load", {
        engine: "pieces",
        graph: null,
        parameters: { "qk.weight": [4, 2] },
        weightDtype: "f32",
        checkpoint: { ...source, parameters },
        stack: [],
      });
      const { tensors } = await bench.host.call("readBack", { engine: "pieces", parameters: ["qk.weight"] });
      expect([...floatsOf(tensors[0]?.data ?? new Uint8Array())]).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
    });

    it("an f16 engine holds the f32 result rounded once", async () => {
      const stack = [
        { adapter: bench.a, strength: 0.37 },
        { adapter: bench.b, strength: -1.1 },
      ];
      const call = { graph: null, parameters: shapes, checkpoint: bench.checkpoint, stack: stackFiles(stack) };
      await bench.host.call("load", { ...call, engine: "wide", weightDtype: "f32" });
      const narrow = await bench.host.call("load", { ...call, engine: "narrow", weightDtype: "f16" });
      expect(narrow.bytes).toBe(2 * Object.values(model).reduce((sum, { data }) => sum + data.length, 0));
      const wide = await bench.host.call("readBack", { engine: "wide", parameters: names });
      const { tensors } = await bench.host.call("readBack", { engine: "narrow", parameters: names });
      for (const [index, tensor] of tensors.entries()) {
        const source = wide.tensors[index]?.data ?? new Uint8Array();
        const rounded = new Uint8Array(source.byteLength / 2);
        await native.convert(source, "F32", rounded, "F16", source.byteLength / 4);
        expect(tensor.dtype).toBe("f16");
        expect(Buffer.compare(tensor.data, rounded), tensor.name).toBe(0);
      }
    });

    it("a full plan of another checkpoint replaces every value", async () => {
      await bench.load("swap", [{ adapter: bench.c, strength: 1 }]);
      const stack = [{ adapter: bench.a, strength: 1 }];
      const { token } = await bench.host.call("prepare", {
        engine: "swap",
        generation: 1,
        plan: fullPlan(model, stack, "other"),
        checkpoint: bench.other,
        stack: stackFiles(stack),
      });
      await bench.host.call("commit", { engine: "swap", token });
      await expectMerged("swap", stack, otherModel);
    });

    it("verify answers the checksums that the engine then has, after load and after a commit", async () => {
      const loaded = await bench.load("verify", [{ adapter: bench.a, strength: 1 }], true);
      expect(loaded.sha256).toEqual(await bench.checksums("verify"));
      const prepared = await bench.prepare("verify", [{ adapter: bench.a, strength: 1 }], [{ adapter: bench.b, strength: 1 }], 1, {
        verify: true,
      });
      expect(Object.keys(prepared.sha256 ?? {}).sort()).toEqual([
        "input_blocks.0.0.weight",
        "middle.attn1.to_k.weight",
        "middle.attn1.to_q.weight",
      ]);
      await bench.host.call("commit", { engine: "verify", token: prepared.token });
      expect(await bench.checksums("verify")).toMatchObject(prepared.sha256 ?? {});
    });

    it("checksums of chosen parameters are those of all parameters", async () => {
      const all = await bench.checksums("verify");
      const { sha256 } = await bench.host.call("checksums", { engine: "verify", parameters: ["out.weight"] });
      expect(sha256).toEqual({ "out.weight": all["out.weight"] });
    });

    it("discard forgets a prepared refit and leaves the weights", async () => {
      await bench.load("discard");
      const before = await bench.checksums("discard");
      const { token } = await bench.prepare("discard", [], [{ adapter: bench.a, strength: 1 }], 1);
      await bench.host.call("discard", { engine: "discard", token });
      expect(await bench.checksums("discard")).toEqual(before);
      await expect(bench.host.call("commit", { engine: "discard", token })).rejects.toMatchObject({ code: "HOST_TOKEN_UNKNOWN" });
      await expect(bench.host.call("discard", { engine: "discard", token })).rejects.toMatchObject({ code: "HOST_TOKEN_UNKNOWN" });
    });

    it("a commit makes plans from older weights stale, prepared or not", async () => {
      await bench.load("stale");
      const first = await bench.prepare("stale", [], [{ adapter: bench.a, strength: 1 }], 1);
      const second = await bench.prepare("stale", [], [{ adapter: bench.b, strength: 1 }], 1);
      await bench.host.call("commit", { engine: "stale", token: second.token });
      const after = await bench.checksums("stale");
      await expect(bench.host.call("commit", { engine: "stale", token: first.token })).rejects.toMatchObject({ code: "HOST_PLAN_STALE" });
      await expect(bench.prepare("stale", [], [{ adapter: bench.a, strength: 1 }], 1)).rejects.toMatchObject({ code: "HOST_PLAN_STALE" });
      expect(await bench.checksums("stale")).toEqual(after);
    });

    it("engines of one host do not touch each other", async () => {
      await bench.load("left");
      await bench.load("right", [{ adapter: bench.a, strength: 1 }]);
      const left = await bench.checksums("left");
      await bench.refit("right", [{ adapter: bench.a, strength: 1 }], [], 1);
      expect(await bench.checksums("left")).toEqual(left);
      expect(await bench.checksums("right")).toEqual(left);
    });

    it("a name is taken until its engine is unloaded, then free again", async () => {
      await bench.load("name");
      await expect(bench.load("name")).rejects.toMatchObject({ code: "HOST_ENGINE_EXISTS" });
      await bench.host.call("unload", { engine: "name" });
      await expect(bench.checksums("name")).rejects.toMatchObject({ code: "HOST_ENGINE_UNKNOWN" });
      expect((await bench.load("name")).generation).toBe(1);
    });

    it("weights that left the device come back as they were, and refits go on from there", async () => {
      await bench.load("away", [{ adapter: bench.a, strength: 0.5 }]);
      const before = await bench.checksums("away");
      const { bytes } = await bench.host.call("offload", { engine: "away" });
      expect((await bench.host.call("status", {})).engines.find(({ engine }) => engine === "away")?.away ?? false).toBe(bytes > 0);
      expect(await bench.checksums("away")).toEqual(before);
      await bench.host.call("offload", { engine: "away" });
      expect(await bench.refit("away", [{ adapter: bench.a, strength: 0.5 }], [], 1)).toBe(2);
      await bench.host.call("offload", { engine: "away" });
      await bench.load("home");
      expect(await bench.checksums("away")).toEqual(await bench.checksums("home"));
    });

    it("weights stay on the device while a refit waits for its commit", async () => {
      await bench.load("waiting");
      const { token } = await bench.prepare("waiting", [], [{ adapter: bench.a, strength: 1 }], 1);
      expect((await bench.host.call("offload", { engine: "waiting" })).bytes).toBe(0);
      await bench.host.call("commit", { engine: "waiting", token });
    });

    it("status lists engines with generation, bytes and prepared refits", async () => {
      await bench.load("listed");
      const { token } = await bench.prepare("listed", [], [{ adapter: bench.a, strength: 1 }], 1);
      const status = await bench.host.call("status", {});
      expect(status.engines.find(({ engine }) => engine === "listed")).toMatchObject({
        generation: 1,
        dirty: false,
        parameters: names.length,
        prepared: [token],
      });
    });

    it("the same files give the same bits in another process", async () => {
      const stack = [
        { adapter: bench.a, strength: 0.37 },
        { adapter: bench.b, strength: -1.1 },
      ];
      await bench.load("here", stack);
      const second = await startHost(command);
      try {
        await second.call("load", {
          engine: "there",
          graph: null,
          parameters: shapes,
          weightDtype: "f32",
          checkpoint: bench.checkpoint,
          stack: stackFiles(stack),
        });
        expect((await second.call("checksums", { engine: "there" })).sha256).toEqual(await bench.checksums("here"));
      } finally {
        await second.close();
      }
    });
  });
}
