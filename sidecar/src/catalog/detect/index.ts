// Family, variant and configuration of a diffusion model from names and shapes alone. In: canonical parameters. Out: a detected model, the name of one
// that is not supported, or null. Never looks at a file's name, and never lets metadata override a shape.

import { otherModelTable, type Family } from "@refit-sidecar/protocol";
import { detectDescribed, findName, type Parameters } from "../../terms/index.ts";
import { shapesOf } from "./model.ts";
import type { DetectedModel, UnsupportedModel } from "./model.ts";
import { detectUnet } from "./unet.ts";

export type { DetectedModel, UnsupportedModel } from "./model.ts";

/** Models of other families, by names that only they have (protocol/other-models.json). */
function detectOther(parameters: Parameters): UnsupportedModel | null {
  for (const { title, checkpoint } of otherModelTable) {
    if (checkpoint === undefined) continue;
    const keys = checkpoint.map((name) => findName(parameters, name));
    if (!keys.includes(undefined)) return { unsupported: title, evidence: keys.map((key) => `key ${key ?? ""}`) };
  }
  return null;
}

/** `parameters` are the diffusion model's, by canonical name; `told`: the family that the file's format told. Null: nothing that is known. */
export function detectModel(parameters: Parameters, told: Family | null = null): DetectedModel | UnsupportedModel | null {
  return detectDescribed(parameters, told) ?? detectUnet(shapesOf(parameters)) ?? detectOther(parameters);
}
