// No adapter of a real model is labelled as another family's: every spelling that a key map knows, and every choice of layers that trainers make, of 30 models.

import { readFileSync, readdirSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import { detectModel } from "../../../sidecar/src/catalog/detect/index.ts";
import { canonicalNames, detectAdapterFamily, keyMap } from "../../../sidecar/src/terms/names/index.ts";

const headers = new URL("../../golden/headers/", import.meta.url);
const prefixes =
  /^(lora_unet_|lycoris_|lora_transformer_|base_model\.model\.|transformer\.|diffusion_model\.|model\.diffusion_model\.|unet\.|_orig_mod\.)?/;
const chosen: Readonly<Record<string, RegExp>> = {
  "all layers": /./,
  attention: /attn|attention/,
  "feed-forward layers": /mlp|ff|feed|fc|w[123]/,
  "the first block": /(blocks|layers)[._]0[._]/,
  "keys and values": /to_[kv]|[._][kv]([._]|$)|kv/,
  "modulations and norms": /mod|norm|adaLN/,
};
/** Flux.1's and Chroma's maps have Flux.2's names too, since ComfyUI 0.33: a file with them is Flux.2's. */
const ofFlux2 = /to_qkv_mlp_proj|linear_(in|out)|attn[._]to_out$/;
/** Layers of the same names and sizes in both, or spelled in one trainer's way for the other. */
const alike: readonly (readonly [model: RegExp, found: string])[] = [
  [/^hunyuan-video-1\.5$/, "hunyuan-video"],
  [/^flux2-/, "FramePack (HunyuanVideo)"],
];

describe("every spelling of an adapter, whatever layers it has, is its own family's, one of its candidates, or not named", () => {
  test.each(readdirSync(headers).map((file) => file.replace(".json.gz", "")))("%s", (model) => {
    const header = new Map(
      Object.entries(
        JSON.parse(gunzipSync(readFileSync(new URL(`${model}.json.gz`, headers))).toString("utf8")) as Record<string, number[]>,
      ),
    );
    const parameters = new Map([...canonicalNames(header).parameters].map(([name, { shape }]) => [name, shape] as const));
    const detected = detectModel(parameters);
    if (detected === null || "unsupported" in detected) throw new Error(`${model} is not detected`);
    const own = detected.family;
    const wrong = new Set<string>();
    for (const mode of ["comfyui", "extended"] as const) {
      const files = new Map<string, { shapes: Map<string, number[]>; targets: Set<string> }>();
      for (const [name, { parameter, slice }] of keyMap(own, parameters, mode)) {
        const shape = parameters.get(parameter);
        if (shape === undefined || shape.length < 2 || !parameter.endsWith(".weight")) continue;
        if (/^(flux|chroma)$/.test(own) && ofFlux2.test(name)) continue;
        const prefix = prefixes.exec(name)?.[1] ?? "";
        for (const [layers, pattern] of Object.entries(chosen)) {
          if (!pattern.test(name)) continue;
          const key = `${prefix} ${layers}`;
          const file = files.get(key) ?? { shapes: new Map<string, number[]>(), targets: new Set<string>() };
          files.set(key, file);
          const target = `${parameter} ${slice?.start ?? ""}`;
          if (file.targets.has(target)) continue;
          file.targets.add(target);
          file.shapes.set(`${name}.lora_down.weight`, [8, ...shape.slice(1)]);
          file.shapes.set(`${name}.lora_up.weight`, [slice?.length ?? shape[0] ?? 0, 8, ...shape.slice(2).map(() => 1)]);
        }
      }
      for (const [key, { shapes }] of files) {
        const { family, candidates, unsupported } = detectAdapterFamily(shapes);
        const found = family ?? unsupported;
        if (found === null || found === own || candidates.includes(own)) continue;
        if (alike.some(([pattern, other]) => pattern.test(model) && found === other)) continue;
        wrong.add(`${mode}, ${key}: ${found}`);
      }
    }
    expect([...wrong]).toEqual([]);
  });
});
