import { readFileSync, readdirSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import type { Family } from "../../../sidecar/src/catalog/types.ts";
import { canonicalNames, checkpointPrefix, diffusersStems, type Parameters } from "../../../sidecar/src/terms/names/index.ts";

const golden = new URL("../../golden/headers/", import.meta.url);
/** Models of the families whose layout is computed or old; the others' own layouts by diffusers are compared in described.test.ts. */
const models = readdirSync(golden)
  .map((file) => file.replace(".json.gz", ""))
  .filter((model) => /^(sd|wan21-[ti]2v|wan22-i2v|flux-)/.test(model));
const familyOf = (model: string): Family =>
  model.startsWith("sd3") ? "sd3" : model.startsWith("flux") ? "flux" : model.startsWith("wan") ? "wan" : (model as Family);
const header = (model: string): Map<string, number[]> =>
  new Map(
    Object.entries(JSON.parse(gunzipSync(readFileSync(new URL(`${model}.json.gz`, golden))).toString("utf8")) as Record<string, number[]>),
  );

/** The same model as diffusers would store it, by the stems. */
function inDiffusersNames(family: Family, parameters: Parameters): Map<string, readonly number[]> {
  const result = new Map<string, readonly number[]>();
  for (const pair of diffusersStems(family, parameters)) {
    if (pair.only === "adapters") continue;
    for (const [from, to] of [
      [pair.nativeSuffix ?? ".weight", ".weight"],
      [".bias", ".bias"],
    ] as const) {
      const shape = parameters.get(pair.native + from);
      if (shape && !(pair.diffusers.startsWith("class_embedding") && result.has("add_embedding.linear_1.weight")))
        result.set(pair.diffusers + to, pair.slice ? [pair.slice.length, ...shape.slice(1)] : shape);
    }
  }
  return result;
}

describe("canonicalNames", () => {
  for (const model of models) {
    test(`${model}: checkpoint keys lose their prefix, shapes stay`, () => {
      const shapes = header(model);
      const names = canonicalNames(shapes);
      expect(names.format).toBe("checkpoint");
      expect(names.otherKeys).toEqual([]);
      expect([...names.parameters.values()].map(({ name, shape, parts }) => [names.prefix + name, shape, parts.length])).toEqual(
        [...shapes].map(([key, shape]) => [key, shape, 1]),
      );
    });

    test(`${model}: diffusers names come back to the same parameters`, () => {
      const native = new Map([...canonicalNames(header(model)).parameters].map(([name, { shape }]) => [name, shape]));
      const names = canonicalNames(inDiffusersNames(familyOf(model), native));
      expect(names.format).toBe("diffusers");
      expect(names.otherKeys).toEqual([]);
      for (const [name, { shape, parts }] of names.parameters) {
        expect(shape, name).toEqual(native.get(name));
        expect(parts.reduce((sum, part) => sum + part.length, 0)).toBe(shape[0] ?? 1);
      }
      // What stems do not reach are parameters that are no module's weight or bias.
      const missing = [...native.keys()].filter((name) => !names.parameters.has(name));
      expect(missing.filter((name) => !/^(pos_embed|head\.modulation|blocks\.\d+\.modulation|img_emb\.emb_pos)$/.test(name))).toEqual([]);
    });
  }

  test("keys of text encoder and VAE stand apart", () => {
    const shapes = new Map<string, number[]>([
      ...[...header("sd15")].map(([name, shape]) => [`model.diffusion_model.${name}`, shape] as [string, number[]]),
      ["first_stage_model.encoder.conv_in.weight", [1]],
      ["cond_stage_model.x", [1]],
    ]);
    const names = canonicalNames(shapes);
    expect(names.otherKeys).toHaveLength(2);
  });

  test("the prefix with most keys wins if it has more than five", () => {
    const many = (prefix: string, count: number): string[] => Array.from({ length: count }, (_, n) => `${prefix}k${n}`);
    expect(checkpointPrefix([...many("model.diffusion_model.", 6), ...many("net.", 7)])).toBe("net.");
    expect(checkpointPrefix(many("net.", 5))).toBe("");
    expect(checkpointPrefix(many("model.", 9))).toBe("model.");
    expect(checkpointPrefix(many("model.diffusion_model.", 2))).toBe("model.diffusion_model.");
    expect(checkpointPrefix(["blocks.0.x"])).toBe("");
  });
});
