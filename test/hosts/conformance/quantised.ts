import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { native } from "../../../native/ts/index.ts";
import { readCheckpointSource } from "../../../sidecar/src/catalog/index.ts";
import type { CheckpointSource } from "../../../sidecar/src/catalog/index.ts";
import { ensureDelta } from "../../../sidecar/src/delta/index.ts";
import type { Host, HostCommand } from "../../../sidecar/src/host/index.ts";
import { leaveHost, sharedHost } from "./shared-host.ts";
import { touchedParameters } from "../../../sidecar/src/terms/index.ts";
import { values } from "../../golden/cases.ts";
import { loadQuantised, quantisedCases, quantisedPath, type QuantisedCase } from "../../golden2/quantised.ts";
import { floatsOf, hashOf } from "../fixtures.ts";

interface Loaded {
  readonly engine: string;
  readonly checkpoint: CheckpointSource;
  readonly none: Readonly<Record<string, string>>;
  generation: number;
}

/** Quantised checkpoints as live f32 engines: the base has the file's values, a stack adds to them without another rounding, and taking it off gives the base back bit for bit. */
export function quantised(command: HostCommand): void {
  describe("quantised checkpoints as live refits", () => {
    let host: Host;
    let folder = "";
    const loaded = new Map<string, Promise<Loaded>>();
    beforeAll(async () => {
      host = await sharedHost(command);
      folder = await mkdtemp(join(tmpdir(), "refit-quantised-"));
    });
    afterAll(async () => {
      await leaveHost(host);
      await rm(folder, { recursive: true, force: true });
    });

    const load = (golden: QuantisedCase): Promise<Loaded> => {
      const made =
        loaded.get(golden.base) ??
        (async (): Promise<Loaded> => {
          const checkpoint = await readCheckpointSource([quantisedPath(golden.base)], golden.family);
          const parameters = Object.fromEntries(Object.entries(checkpoint.parameters).map(([name, { shape }]) => [name, [...shape]]));
          await host.call("load", { engine: golden.base, graph: null, parameters, weightDtype: "f32", checkpoint, stack: [] });
          return { engine: golden.base, checkpoint, none: (await host.call("checksums", { engine: golden.base })).sha256, generation: 1 };
        })();
      loaded.set(golden.base, made);
      return made;
    };

    const refit = async (at: Loaded, stack: { delta: string; sha256: string; strength: number }[], writes: readonly string[]) => {
      const to = { checkpoint: "base", stack: stack.map(({ sha256, strength }) => ({ sha256, strength })) };
      const plan = {
        from: { checkpoint: "base", stack: [] },
        to,
        full: false,
        writes: writes.map((parameter) => ({ parameter, reason: "touched" as const })),
      };
      const { token } = await host.call("prepare", { engine: at.engine, generation: at.generation, plan, checkpoint: null, stack });
      at.generation = (await host.call("commit", { engine: at.engine, token })).generation;
    };

    /** Engine values against ComfyUI's in f32, by the file's keys. */
    const compare = async (at: Loaded, golden: QuantisedCase, keys: readonly string[]) => {
      const byKey = new Map(Object.entries(at.checkpoint.parameters).map(([name, { pieces }]) => [pieces[0]?.key ?? "", name]));
      const { tensors } = await host.call("readBack", { engine: at.engine, parameters: keys.map((key) => byKey.get(key) ?? key) });
      const expected = loadQuantised(golden.expected);
      keys.forEach((key, index) => {
        const wanted = expected.get(`${key}.__intended__`) ?? expected.get(`${key}.__f32__`) ?? expected.get(key);
        const got = floatsOf(tensors[index]?.data ?? new Uint8Array());
        expect(tensors[index]?.shape, key).toEqual(wanted?.shape);
        const bad = [...(wanted === undefined ? [] : values(wanted))].findIndex(
          (value, i) => !(Math.abs((got[i] ?? NaN) - value) <= 1e-6 + 1e-5 * Math.abs(value)),
        );
        expect(bad, `${key}[${bad}]: ${got[bad]}`).toBe(-1);
      });
    };

    it.each(quantisedCases().map((golden) => [golden.name, golden] as const))("%s", async (_, golden) => {
      const at = await load(golden);
      if (golden.adapters.length === 0)
        return compare(
          at,
          golden,
          [...loadQuantised(golden.expected).keys()].filter((key) => !key.includes("__")),
        );
      const parameters = new Map(Object.entries(at.checkpoint.parameters).map(([name, { shape }]) => [name, shape]));
      const stack: { delta: string; sha256: string; strength: number }[] = [];
      const touched = new Set<string>();
      for (const [index, { file, strength }] of golden.adapters.entries()) {
        const sha256 = hashOf(`${golden.name} ${index}`);
        const ready = await ensureDelta(
          {
            adapter: { path: quantisedPath(file), sha256 },
            target: { family: golden.family, structure: hashOf(golden.base), parameters },
            mode: "comfyui",
            folder,
          },
          native,
        );
        stack.push({ delta: ready.path, sha256, strength });
        for (const name of touchedParameters(ready.header.terms)) touched.add(name);
      }
      await refit(at, stack, [...touched]);
      await compare(at, golden, golden.touched);
      await refit(at, [], [...touched]);
      expect((await host.call("checksums", { engine: at.engine })).sha256).toEqual(at.none);
    });
  });
}
