import { afterEach, describe, expect, it } from "vitest";
import { realHeader } from "./headers.ts";
import { safetensors, startWorld, tinyUnet } from "./world.ts";
import type { TensorSpec, World } from "./world.ts";

const worlds: World[] = [];
async function world(): Promise<World> {
  const started = await startWorld({ kind: "checkpoint" });
  worlds.push(started);
  return started;
}
afterEach(async () => {
  // One after the other: a world that was started again has the folder of the one before.
  for (const each of worlds.splice(0).reverse()) await each.end();
});

describe("checkpointSource", () => {
  it("gives every canonical parameter its file, key, dtype and shape, and leaves other models' tensors out", async () => {
    const { put, catalog } = await world();
    const entry = await put(
      "m.safetensors",
      safetensors({
        ...Object.fromEntries(Object.entries(tinyUnet).map(([name, shape]) => [`model.diffusion_model.${name}`, shape])),
        "first_stage_model.x": [2],
        "model_ema.decay": { dtype: "F32", shape: [] },
      }),
    );
    const source = await catalog.checkpointSource(entry.id);
    expect(Object.keys(source.parameters).sort()).toEqual(Object.keys(tinyUnet).sort());
    expect(source.parameters["out.2.weight"]).toEqual({
      shape: [4, 8, 3, 3],
      pieces: [{ file: 0, key: "model.diffusion_model.out.2.weight", dtype: "F16", start: 0, length: 4, swapHalves: false }],
    });
    expect(source.files).toMatchObject([{ path: entry.path, sizeBytes: entry.sizeBytes }]);
    expect(source.files[0]?.mtimeNs).toMatch(/^\d+$/);
    expect(await catalog.checkpointSource(entry.id)).toBe(source);
  });

  it("names the scale of scaled fp8 weights and never offers helpers as parameters", async () => {
    const { put, catalog } = await world();
    const scaled: Record<string, TensorSpec> = { "model.diffusion_model.scaled_fp8": { dtype: "F8_E4M3", shape: [2] } };
    for (const [name, shape] of Object.entries(tinyUnet)) {
      scaled[`model.diffusion_model.${name}`] = { dtype: "F8_E4M3", shape };
      scaled[`model.diffusion_model.${name.replace(/weight$/, "scale_weight")}`] = { dtype: "F32", shape: [] };
      scaled[`model.diffusion_model.${name.replace(/weight$/, "scale_input")}`] = { dtype: "F32", shape: [] };
    }
    const entry = await put("m.safetensors", safetensors(scaled));
    expect(entry).toMatchObject({ family: "sd15", parameters: 8, dtypes: { F8_E4M3: 8 } });
    const source = await catalog.checkpointSource(entry.id);
    expect(source.parameters["out.2.weight"]).toEqual({
      shape: [4, 8, 3, 3],
      pieces: [
        {
          file: 0,
          key: "model.diffusion_model.out.2.weight",
          dtype: "F8_E4M3",
          start: 0,
          length: 4,
          swapHalves: false,
          storage: { format: "scaled", scale: "model.diffusion_model.out.2.scale_weight" },
        },
      ],
    });
    expect(Object.keys(source.parameters)).toHaveLength(8);
  });

  it("of a file that was replaced since: CATALOG_FILE_CHANGED", async () => {
    const { put, write, catalog } = await world();
    const entry = await put("m.safetensors", safetensors(tinyUnet));
    write("m.safetensors", safetensors({ ...tinyUnet, "out.0.weight": [8] }));
    await expect(catalog.checkpointSource(entry.id)).rejects.toMatchObject({ code: "CATALOG_FILE_CHANGED" });
  });

  it("of an adapter: CATALOG_ENTRY_UNUSABLE", async () => {
    const { put, catalog } = await world();
    const entry = await put("x.safetensors", safetensors({ "a.lora_up.weight": [1, 1], "a.lora_down.weight": [1, 1] }));
    await expect(catalog.checkpointSource(entry.id)).rejects.toMatchObject({ code: "CATALOG_ENTRY_UNUSABLE" });
    expect(() => catalog.adapterFile("checkpoint:x")).toThrow(expect.objectContaining({ code: "CATALOG_ENTRY_UNKNOWN" }));
  });
});

/** Shapes cut down (their products would make gigabytes), proportions that matter kept. */
function small(header: Readonly<Record<string, readonly number[]>>, divisor: number): Record<string, number[]> {
  return Object.fromEntries(
    Object.entries(header).map(([name, shape]) => [name, shape.map((dim) => (dim >= divisor ? dim / divisor : dim))]),
  );
}

describe("diffusers-format checkpoints", () => {
  it("Flux: fused parameters come in pieces that cover their rows, and the exchanged one says so", async () => {
    const { put, catalog } = await world();
    const h = 24;
    const shapes: Record<string, readonly number[]> = {};
    const linear = (stem: string, rows: number, cols: number) =>
      Object.assign(shapes, { [`${stem}.weight`]: [rows, cols], [`${stem}.bias`]: [rows] });
    linear("x_embedder", h, 64);
    linear("context_embedder", h, 32);
    linear("proj_out", 64, h);
    linear("norm_out.linear", 2 * h, h);
    for (const name of ["timestep", "text", "guidance"])
      for (const layer of [1, 2]) linear(`time_text_embed.${name}_embedder.linear_${layer}`, h, h);
    const block = "transformer_blocks.0";
    for (const name of ["to_q", "to_k", "to_v", "add_q_proj", "add_k_proj", "add_v_proj", "to_out.0", "to_add_out"])
      linear(`${block}.attn.${name}`, h, h);
    for (const name of ["norm_q", "norm_k", "norm_added_q", "norm_added_k"]) shapes[`${block}.attn.${name}.weight`] = [8];
    for (const name of ["norm1", "norm1_context"]) linear(`${block}.${name}.linear`, 6 * h, h);
    for (const name of ["ff", "ff_context"]) {
      linear(`${block}.${name}.net.0.proj`, 4 * h, h);
      linear(`${block}.${name}.net.2`, h, 4 * h);
    }
    const single = "single_transformer_blocks.0";
    for (const name of ["to_q", "to_k", "to_v"]) linear(`${single}.attn.${name}`, h, h);
    for (const name of ["norm_q", "norm_k"]) shapes[`${single}.attn.${name}.weight`] = [8];
    linear(`${single}.proj_mlp`, 4 * h, h);
    linear(`${single}.proj_out`, h, 5 * h);
    linear(`${single}.norm.linear`, 3 * h, h);
    const entry = await put("flux.safetensors", safetensors(shapes));
    expect(entry).toMatchObject({ kind: "checkpoint", family: "flux", variant: "dev", format: "diffusers", keyPrefix: "" });
    const { parameters } = await catalog.checkpointSource(entry.id);
    expect(parameters["img_in.weight"]).toEqual({
      shape: [h, 64],
      pieces: [{ file: 0, key: "x_embedder.weight", dtype: "F16", start: 0, length: h, swapHalves: false }],
    });
    expect(parameters["double_blocks.0.img_attn.qkv.weight"]).toMatchObject({
      shape: [3 * h, h],
      pieces: [
        { key: `${block}.attn.to_q.weight`, start: 0, length: h, swapHalves: false },
        { key: `${block}.attn.to_k.weight`, start: h, length: h, swapHalves: false },
        { key: `${block}.attn.to_v.weight`, start: 2 * h, length: h, swapHalves: false },
      ],
    });
    expect(parameters["single_blocks.0.linear1.weight"]?.shape).toEqual([7 * h, h]);
    expect(parameters["final_layer.adaLN_modulation.1.weight"]).toMatchObject({
      pieces: [{ key: "norm_out.linear.weight", swapHalves: true }],
    });
  });

  it("with pieces in two dtypes: CATALOG_MIXED_PIECES", async () => {
    const { put, catalog } = await world();
    const header = small(realHeader("flux-dev"), 128);
    const h = header["img_in.weight"]?.[0] ?? 0;
    const shapes: Record<string, TensorSpec> = {};
    for (const [name, shape] of Object.entries({
      "x_embedder.weight": [h, 64],
      "context_embedder.weight": [h, 32],
      "transformer_blocks.0.attn.to_q.weight": [h, h],
      "transformer_blocks.0.attn.to_k.weight": [h, h],
      "transformer_blocks.0.attn.to_v.weight": [h, h],
      "transformer_blocks.0.attn.add_q_proj.weight": [h, h],
      "transformer_blocks.0.attn.norm_k.weight": [8],
      "single_transformer_blocks.0.proj_out.weight": [h, h],
    }))
      shapes[name] = { shape };
    shapes["transformer_blocks.0.attn.to_v.weight"] = { dtype: "F32", shape: [h, h] };
    const entry = await put("mixed.safetensors", safetensors(shapes));
    expect(entry).toMatchObject({ family: "flux", problem: null });
    await expect(catalog.checkpointSource(entry.id)).rejects.toMatchObject({ code: "CATALOG_MIXED_PIECES" });
  });
});
