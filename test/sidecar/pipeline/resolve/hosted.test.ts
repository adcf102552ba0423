// Which engines need no graph, and what a run is told that would go to a host that cannot serve them.

import { describe, expect, it } from "vitest";
import { hostedSpec } from "../../../../sidecar/src/pipeline/resolve/hosted.ts";
import type { ResolvedCheckpoint } from "../../../../sidecar/src/pipeline/resolve/resolver.ts";

const zImage: ReadonlyMap<string, readonly number[]> = new Map<string, readonly number[]>([
  ["x_embedder.weight", [384, 64]],
  ["cap_embedder.1.weight", [384, 40]],
  ["layers.0.attention.qkv.weight", [1152, 384]],
  ["a_marker", [0]],
]);
const flux: ReadonlyMap<string, readonly number[]> = new Map<string, readonly number[]>([
  ["img_in.weight", [64, 384]],
  ["txt_in.weight", [64, 48]],
  ["vector_in.in_layer.weight", [64, 40]],
  ["final_layer.linear.weight", [64, 64]],
]);
const checkpoint = (family: "z-image" | "flux" | "sd15", parameters: ReadonlyMap<string, readonly number[]>) =>
  ({ target: { family, structure: "0".repeat(64), parameters } }) as unknown as ResolvedCheckpoint;
const request = { kind: "torch", installed: true, precision: "auto", residuals: false } as const;

describe("hostedSpec", () => {
  it("gives the torch host an engine from shapes alone, in the family's best precision, without names that hold no values", () => {
    const made = hostedSpec(checkpoint("z-image", zImage), request);
    expect(made?.spec).toMatchObject({ hostKind: "torch", graph: null, steps: true, precision: "bf16" });
    expect(made?.spec.parameters.names).not.toContain("a_marker");
    expect(made?.table.inputs.map(({ name, shape }) => [name, shape])).toEqual([
      ["sample", ["batch", 16, "height", "width"]],
      ["timestep", ["batch"]],
      ["encoder_hidden_states", ["batch", "tokens", 40]],
    ]);
    expect(made?.table.outputs).toEqual([{ name: "out_sample", dtype: "float", shape: ["batch", 16, "height", "width"] }]);
  });

  it("gives every member of a list sizes of its own, and an output of its own width where it has one", () => {
    const table = hostedSpec(checkpoint("flux", flux), request)?.table;
    expect(table?.inputs.find(({ name }) => name === "sample")?.shape).toEqual(["batch", 96, "height", "width"]);
    expect(table?.inputs.find(({ name }) => name === "reference_latents_1")).toEqual({
      name: "reference_latents_1",
      dtype: "float",
      shape: ["references_1", 16, "height_1", "width_1"],
      optional: true,
    });
    expect(table?.outputs[0]?.shape).toEqual(["batch", 16, "height", "width"]);
  });

  it("leaves UNets, and families with a graph on other hosts, to their graphs", () => {
    expect(hostedSpec(checkpoint("sd15", new Map()), request)).toBeNull();
    expect(hostedSpec(checkpoint("flux", flux), { ...request, kind: "onnxruntime" })).toBeNull();
  });

  it("throws ENGINE_HOST with the command that installs the torch host, or with what to choose where it is installed", () => {
    const told = (text: string) => expect.objectContaining({ code: "ENGINE_HOST", message: expect.stringContaining(text) as string });
    const elsewhere =
      'Z-Image is served by the torch host alone, and this run would go to onnxruntime; run "refit-sidecar host install torch"';
    expect(() => hostedSpec(checkpoint("z-image", zImage), { ...request, kind: "onnxruntime", installed: false })).toThrow(told(elsewhere));
    expect(() => hostedSpec(checkpoint("z-image", zImage), { ...request, kind: "tensorrt" })).toThrow(told("choose the host torch for it"));
  });

  it("throws ENGINE_PRECISION when residual inputs are wanted", () => {
    expect(() => hostedSpec(checkpoint("z-image", zImage), { ...request, residuals: true })).toThrow(
      expect.objectContaining({ code: "ENGINE_PRECISION" }),
    );
  });
});
