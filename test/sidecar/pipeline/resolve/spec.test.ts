import { describe, expect, it } from "vitest";
import { Failure } from "../../../../sidecar/src/failure/index.ts";
import { engineSpec, type SpecParts } from "../../../../sidecar/src/pipeline/resolve/spec.ts";
import type { ResolvedCheckpoint } from "../../../../sidecar/src/pipeline/resolve/resolver.ts";

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
    card: () => false,
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

describe("a host that is left open", () => {
  const shapes = (entries: Record<string, readonly number[]>) => new Map(Object.entries(entries));
  const zImage = {
    target: {
      family: "z-image",
      structure: "z",
      parameters: shapes({
        "x_embedder.weight": [384, 64],
        "cap_embedder.1.weight": [384, 40],
        "layers.0.attention.qkv.weight": [1152, 384],
      }),
    },
    entry: { name: "z", path: "" },
  } as unknown as ResolvedCheckpoint;
  const open = (card: boolean, onProcessor: SpecParts["onProcessor"], more: Partial<SpecParts> = {}): SpecParts => ({
    ...parts(["fp32", "fp16"], onProcessor),
    options: () => ({ host: "auto", precision: "auto" }),
    card: () => card,
    ...more,
  });
  const spec = async (given: SpecParts, file = checkpoint, precision: "auto" | "bf16" | "fp16" = "auto") => {
    const made = await engineSpec(given, file, { host: "auto", precision, residuals: false });
    return [made.spec.hostKind, made.spec.precision];
  };
  const yes = () => Promise.resolve(true);
  const no = () => Promise.resolve(false);

  it("is the embedded one without a card, and no host is started to find that out", async () => {
    expect(await spec(open(false, never))).toEqual(["onnxruntime", "f32"]);
    expect(await spec(open(false, never), checkpoint, "fp16")).toEqual(["onnxruntime", "f16"]);
  });

  it("is the embedded one where PyTorch does not see the card that is there, else torch", async () => {
    expect(await spec(open(true, yes))).toEqual(["onnxruntime", "f32"]);
    expect(await spec(open(true, no))).toEqual(["torch", "f16"]);
  });

  it("is torch for what only torch can do: families, and precisions; fp32 on a processor where that is open too", async () => {
    expect(await spec(open(false, yes), zImage)).toEqual(["torch", "f32"]);
    expect(await spec(open(true, no), zImage)).toEqual(["torch", "bf16"]);
    expect(await spec(open(false, never), checkpoint, "bf16")).toEqual(["torch", "bf16"]);
  });

  it("is torch where the embedded one's graph cannot be made", async () => {
    const failed = new Failure("ENGINE_GRAPH_EXPORT_FAILED", "no such network", {});
    const table = parts(["fp32"], never).graphs.find("s");
    const graphs = {
      find: (_: string, need?: string) => (need === "table" ? table : null),
      failure: () => failed,
    } as unknown as SpecParts["graphs"];
    expect(await spec(open(false, yes, { graphs }))).toEqual(["torch", "f32"]);
    await expect(spec(open(false, yes, { graphs, pythons: () => null }))).rejects.toBe(failed);
  });
});
