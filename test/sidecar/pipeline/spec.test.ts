import { describe, expect, it } from "vitest";
import { engineSpec, type SpecParts } from "../../../sidecar/src/pipeline/spec.ts";
import type { ResolvedCheckpoint } from "../../../sidecar/src/pipeline/wanted.ts";

const parameters = new Map([["input_blocks.0.0.weight", [4, 4, 3, 3]]]);
const checkpoint = {
  target: { family: "sd15", structure: "s", parameters },
  entry: { name: "m", path: "" },
} as unknown as ResolvedCheckpoint;

function parts(variants: readonly string[], onProcessor: SpecParts["onProcessor"]): SpecParts {
  const bundle = {
    folder: "g",
    variants: Object.fromEntries(variants.map((name) => [name, `${name}.onnx`])),
    parameters: Object.fromEntries(parameters),
    fixed: new Set(),
    inputs: [],
    outputs: [],
    residuals: [],
  };
  return {
    graphs: { find: () => bundle },
    jobs: {},
    options: () => ({ host: "torch", precision: "auto" }),
    pythons: () => ({ python: "python", paths: [] }),
    winner: () => null,
    onProcessor,
  } as unknown as SpecParts;
}

const chosen = async (given: SpecParts, precision: "auto" | "fp16" = "auto") =>
  (await engineSpec(given, checkpoint, { host: "torch", precision, residuals: false })).spec.precision;
const never = () => Promise.reject(new Error("asked"));

describe("a precision that is left open", () => {
  it("is fp32 on a processor, whatever the host, and fp16 on a GPU", async () => {
    expect(await chosen(parts(["fp32", "fp16"], () => Promise.resolve(true)))).toBe("f32");
    expect(await chosen(parts(["fp32", "fp16"], () => Promise.resolve(false)))).toBe("f16");
    expect(await chosen(parts(["fp16"], () => Promise.resolve(true)))).toBe("f16");
  });

  it("is not asked about where it is named", async () => {
    expect(await chosen(parts(["fp32", "fp16"], never), "fp16")).toBe("f16");
  });
});
