import { readFileSync, readdirSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import type { Family } from "../../../sidecar/src/catalog/types.ts";
import { canonicalNames, keyMap } from "../../../sidecar/src/terms/names/index.ts";

const golden = new URL("../../golden/", import.meta.url);
const familyOf = (model: string): Family =>
  model.startsWith("sd3") ? "sd3" : model.startsWith("flux") ? "flux" : model.startsWith("wan") ? "wan" : (model as Family);

function lines(model: string): string[] {
  return gunzipSync(readFileSync(new URL(`keymap/${model}.tsv.gz`, golden)))
    .toString("utf8")
    .split("\n")
    .filter((line) => line !== "");
}

describe("keyMap equals ComfyUI 0.3.64's for the published structures", () => {
  for (const file of readdirSync(new URL("keymap/", golden))) {
    const model = file.replace(".tsv.gz", "");
    test(model, () => {
      const header = JSON.parse(gunzipSync(readFileSync(new URL(`headers/${model}.json.gz`, golden))).toString("utf8")) as Record<
        string,
        number[]
      >;
      const prefix = "model.diffusion_model.";
      const parameters = new Map(
        Object.entries(header).map(([name, shape]) => [name.startsWith(prefix) ? name.slice(prefix.length) : name, shape]),
      );
      const made = [...keyMap(familyOf(model), parameters)].map(([name, target]) => {
        const slice = target.slice ? `0,${target.slice.start},${target.slice.length}` : "";
        const columns = [name, `diffusion_model.${target.parameter}`, slice, target.swapHalves ? "swap_halves_dim0" : ""];
        return columns.join("\t").trimEnd();
      });
      const normalise = (rows: string[]): string[] => rows.map((row) => row.trimEnd()).sort();
      const theirs = new Set(normalise(lines(model)));
      // Since 0.33 ComfyUI has more names for Flux.1; what they are is compared below.
      const known = familyOf(model) === "flux" ? made.filter((row) => theirs.has(row.trimEnd())) : made;
      expect(normalise(known)).toEqual([...theirs]);
    });
  }
});

type Row = readonly [name: string, parameter: string, rows: string, swap: boolean];
const golden2 = new URL("../../golden2/", import.meta.url);
/** ComfyUI 0.33's own maps, first blocks only; `REFIT_RECORD=1` with test/python/oracles/test_comfyui_key_maps.py writes them. */
const recorded = JSON.parse(gunzipSync(readFileSync(new URL("keymap-order.json.gz", golden2))).toString("utf8")) as Record<
  string,
  readonly Row[]
>;
const detected = JSON.parse(readFileSync(new URL("detect.json", golden2), "utf8")) as Record<string, { readonly family: Family }>;

describe("names of one target stand in ComfyUI's order: of two in one file the later one counts", () => {
  test.each(Object.keys(recorded))("%s", (model) => {
    const header = JSON.parse(gunzipSync(readFileSync(new URL(`headers/${model}.json.gz`, golden))).toString("utf8")) as Record<
      string,
      number[]
    >;
    const parameters = new Map(
      [...canonicalNames(new Map(Object.entries(header))).parameters].map(([name, { shape }]) => [name, shape] as const),
    );
    const family = detected[model]?.family ?? familyOf(model);
    const release = (name: string): string => name.replace(/(query|key)_norm\.(scale|weight)$/, "$1_norm");
    const byTarget = (rows: Iterable<Row>): Map<string, string[]> => {
      const found = new Map<string, string[]>();
      for (const [name, parameter, part, swap] of rows) {
        const place = `${release(parameter)} ${part} ${swap}`;
        found.set(place, [...(found.get(place) ?? []), name]);
      }
      return found;
    };
    const mine = byTarget(
      [...keyMap(family, parameters)]
        .filter(([name]) => !(family === "flux" && name.endsWith("_norm.scale")))
        .map(([name, target]): Row => [
          name,
          target.parameter,
          target.slice ? `${target.slice.start},${target.slice.length}` : "",
          target.swapHalves === true,
        ]),
    );
    for (const [place, names] of byTarget(recorded[model] ?? [])) {
      // Python keeps these in a set, and Lumina 2's unequal parts are cut as they are, not as ComfyUI assumes.
      if (place.startsWith("label_emb.") || (family === "lumina2" && /attention\.qkv\.weight \d/.test(place))) continue;
      expect(mine.get(place), place).toEqual(names);
    }
  });
});
