// Files that are whole and odd: no metadata said as null, and tensors of dtypes that no weight has, beside a model and inside it.

import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { dtypeBytes, native, writeSafetensors, type Dtype, type TensorSource } from "@refit-sidecar/native";
import { describe, expect, it } from "vitest";
import { bake, openBase } from "../../sidecar/src/bake/index.ts";
import { summarize } from "../../sidecar/src/catalog/index.ts";
import { parseJob } from "../../sidecar/src/cli/merge.ts";
import { explain } from "../../sidecar/src/explain/index.ts";
import { fluxModel, newFolder, pair, valuesOf, write, type Given } from "./support.ts";

const folder = newFolder();
const at = (name: string) => join(folder, name);
const exotic = ["F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "F6_E2M3", "F6_E3M2", "F4", "C64"] as const satisfies readonly Dtype[];
const raw = (name: string, dtype: Dtype, shape: readonly number[] = [8, 8]): TensorSource => ({
  name,
  dtype,
  shape,
  data: new Uint8Array(shape.reduce((product, dim) => product * dim, dtypeBytes[dtype])).fill(0x35),
});

/** A file of `write` with more tensors, and with a header that `change` has had in its hands. */
async function withMore(
  name: string,
  given: Readonly<Record<string, Given>>,
  more: readonly TensorSource[],
  change: (header: Record<string, unknown>) => void = () => undefined,
): Promise<string> {
  const plain = await native.openTensorFile(await write(at("plain.safetensors"), given));
  const kept = [...plain.header.entries.values()].map((entry) => ({ ...entry, data: () => plain.read(entry.name) }));
  await writeSafetensors(at(name), [...kept, ...more]);
  await plain.close();
  const bytes = readFileSync(at(name));
  const end = 8 + Number(bytes.readBigUInt64LE());
  const header = JSON.parse(bytes.subarray(8, end).toString()) as Record<string, unknown>;
  change(header);
  const text = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.byteLength));
  writeFileSync(at(name), Buffer.concat([length, text, bytes.subarray(end)]));
  return at(name);
}

const nullMetadata = (header: Record<string, unknown>): void => void (header["__metadata__"] = null);
const prefixed = () => Object.fromEntries(Object.entries(fluxModel()).map(([key, one]) => [`model.diffusion_model.${key}`, one]));
const target = "double_blocks.0.img_attn.proj";
const lora = () => pair(`diffusion_model.${target}`, 32, 32);

describe("a file that says null for its metadata", () => {
  it("is read as one without metadata: checkpoint and adapter, in merge and inspect", async () => {
    const base = await withMore("null-base.safetensors", fluxModel(), [], nullMetadata);
    const adapter = await withMore("null-lora.safetensors", lora(), [], nullMetadata);
    expect(await explain(base, null)).toMatchObject({ kind: "checkpoint", summary: { family: "flux", problem: null } });
    const report = await bake(parseJob({ base, adapter: [adapter], out: at("null-out.safetensors"), family: "flux" }));
    expect(report).toMatchObject({ merged: 1, adapters: [{ failed: [], ignored: [] }] });
  });
});

describe("tensors of dtypes that no weight has", () => {
  it.each(exotic)("%s beside the diffusion model: the rest is merged, and the tensor is copied byte for byte", async (dtype) => {
    const more = [raw("text_encoders.t5.block.0.weight", dtype), raw("vae.decoder.x", dtype)];
    const base = await withMore(`beside-${dtype}.safetensors`, prefixed(), more);
    expect(await explain(base, null)).toMatchObject({ kind: "checkpoint", summary: { family: "flux", problem: null } });
    const adapter = await write(at("lora.safetensors"), lora());
    const out = at(`beside-${dtype}-out.safetensors`);
    expect(await bake(parseJob({ base, adapter: [adapter], out, family: "flux", dtype: "f16" }))).toMatchObject({ merged: 1 });
    const file = await native.openTensorFile(out);
    for (const { name, data } of more) {
      expect(file.header.entries.get(name)?.dtype).toBe(dtype);
      expect(await file.read(name)).toEqual(data);
    }
    await file.close();
  });

  it.each(exotic)("%s inside the diffusion model is refused by its name", async (dtype) => {
    for (const key of [`${target}.weight`, `${target}.bias`, "img_in.weight"]) {
      const model = Object.fromEntries(Object.entries(prefixed()).filter(([name]) => !name.endsWith(key)));
      const base = await withMore(`inside.safetensors`, model, [
        raw(`model.diffusion_model.${key}`, dtype, prefixed()[`model.diffusion_model.${key}`]?.shape),
      ]);
      for (const read of [() => openBase(base, null), () => explain(at("lora.safetensors"), base)])
        await expect(read()).rejects.toMatchObject({
          code: "CATALOG_UNSUPPORTED_QUANTISATION",
          message: expect.stringContaining(`${dtype} (model.diffusion_model.${key})`) as string,
        });
      const { header, close } = await native.openTensorFile(base).then((file) => ({ header: file.header, close: () => file.close() }));
      expect(summarize(header.entries, header.metadata, "checkpoint")).toMatchObject({
        family: "flux",
        problem: { code: "CATALOG_UNSUPPORTED_QUANTISATION" },
      });
      await close();
    }
  });

  it("in an adapter: those keys are named, the others are merged", async () => {
    const base = await write(at("base.safetensors"), fluxModel());
    const odd = "diffusion_model.double_blocks.0.txt_attn.proj";
    const adapter = await withMore("odd-lora.safetensors", lora(), [
      raw(`${odd}.lora_A.weight`, "F4", [4, 32]),
      raw(`${odd}.lora_B.weight`, "F4", [32, 4]),
      raw("text_encoders.t5.block.0.weight", "F6_E2M3"),
    ]);
    const report = await bake(parseJob({ base, adapter: [adapter], out: at("odd-out.safetensors") }));
    expect(report.merged).toBe(1);
    expect(report.adapters[0]?.failed).toContainEqual(
      expect.objectContaining({ key: `${odd}.lora_A.weight`, reason: expect.stringContaining("F4") as string }),
    );
    expect(report.adapters[0]?.ignored.map(({ key }) => key)).toEqual(["text_encoders.t5.block.0.weight"]);
  });

  it("an alpha in powers of two has its value", async () => {
    const base = await write(at("base.safetensors"), fluxModel());
    const alpha = (value: TensorSource) => withMore(`${value.dtype}.safetensors`, lora(), [value]);
    const key = `diffusion_model.${target}.alpha`;
    const outs = [];
    for (const one of [
      { name: key, dtype: "F8_E8M0" as const, shape: [], data: Uint8Array.of(126) },
      { name: key, dtype: "F32" as const, shape: [], data: new Uint8Array(Float32Array.of(0.5).buffer) },
    ]) {
      const out = at(`alpha-${one.dtype}.safetensors`);
      await bake(parseJob({ base, adapter: [await alpha(one)], out }));
      outs.push(await valuesOf(out, `${target}.weight`));
    }
    expect(outs[0]).toEqual(outs[1]);
  });
});
