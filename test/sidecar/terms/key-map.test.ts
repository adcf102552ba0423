import { readFileSync, readdirSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import type { Family } from "../../../sidecar/src/catalog/types.ts";
import { keyMap } from "../../../sidecar/src/terms/names/index.ts";

const golden = new URL("../../golden/", import.meta.url);
const familyOf = (model: string): Family =>
  model.startsWith("sd3") ? "sd3" : model.startsWith("flux") ? "flux" : model.startsWith("wan") ? "wan" : (model as Family);

function lines(model: string): string[] {
  return gunzipSync(readFileSync(new URL(`keymap/${model}.tsv.gz`, golden)))
    .toString("utf8")
    .split("\n")
    .filter((line) => line !== "");
}

describe("keyMap equals ComfyUI's for the published structures", () => {
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
      expect(normalise(made)).toEqual(normalise(lines(model)));
    });
  }
});
