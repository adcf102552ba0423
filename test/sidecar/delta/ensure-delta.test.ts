import { mkdtempSync, readFileSync, readdirSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { native, writeSafetensors } from "@refit-sidecar/native";
import { ensureDelta, exportDelta, type DeltaRequest } from "../../../sidecar/src/delta/index.ts";
import { openDelta } from "../../../sidecar/src/terms/index.ts";
import { loraQ, target, toQ, writeAdapter } from "./files.ts";

const root = mkdtempSync(join(tmpdir(), "refit-delta-"));
const folder = join(root, "deltas");
afterAll(() => rmSync(root, { recursive: true, force: true }));

async function requestFor(
  name: string,
  tensors: Parameters<typeof writeAdapter>[1],
  metadata: Record<string, string> = {},
): Promise<DeltaRequest> {
  const path = join(root, name);
  return { adapter: { path, sha256: await writeAdapter(path, tensors, metadata) }, target, mode: "comfyui", folder };
}

describe("ensureDelta", () => {
  let request: DeltaRequest;
  beforeAll(async () => {
    request = await requestFor("plain.safetensors", loraQ);
  });

  test("makes a delta once and then finds it", async () => {
    const first = await ensureDelta(request, native);
    expect(first).toMatchObject({
      cached: false,
      nonFinite: [],
      header: { adapter: request.adapter.sha256, structure: target.structure, problem: null, warnings: [], bytes: 512 },
    });
    expect((await ensureDelta(request, native)).cached).toBe(true);
    expect(readdirSync(folder).filter((name) => name.endsWith(".tmp"))).toEqual([]);
  });

  test("rebuilds a delta with any byte changed, cut short or emptied", async () => {
    const { path } = await ensureDelta(request, native);
    const whole = readFileSync(path);
    // A byte of each part: header length, JSON, factor data, checksum table.
    for (const at of [0, 60, whole.length - 200, whole.length - 10, whole.length - 1]) {
      const bad = Buffer.from(whole);
      bad[at] = (bad[at] ?? 0) ^ 0x11;
      writeFileSync(path, bad);
      expect((await ensureDelta(request, native)).cached, `byte ${at}`).toBe(false);
      expect(readFileSync(path)).toEqual(whole);
    }
    for (const size of [0, 7, whole.length - 1]) {
      truncateSync(path, size);
      expect((await ensureDelta(request, native)).cached, `size ${size}`).toBe(false);
    }
  });

  test("reads a delta whole once per process, and again when the file has changed", async () => {
    const verified = new Map<string, string>();
    const { path } = await ensureDelta(request, native);
    await ensureDelta(request, native, undefined, verified);
    expect([...verified.keys()]).toEqual([path]);
    const bytes = readFileSync(path);
    bytes[bytes.length - 200] = (bytes[bytes.length - 200] ?? 0) ^ 1;
    writeFileSync(path, bytes);
    expect((await ensureDelta(request, native, undefined, verified)).cached).toBe(false);
  });

  test("a delta of another structure, mode or adapter under the same name is not served", async () => {
    const { path } = await ensureDelta(request, native);
    const other = { ...request, target: { ...target, structure: `${target.structure.slice(0, 16)}${"0".repeat(48)}` } };
    const made = await ensureDelta(other, native);
    expect(made).toMatchObject({ path, cached: false });
    expect((await ensureDelta(request, native)).cached).toBe(false);
  });

  test("refuses an adapter that is not the one that was hashed", async () => {
    const stamp = statSync(request.adapter.path, { bigint: true });
    const held = {
      ...request,
      folder: join(root, "other"),
      adapter: { ...request.adapter, stamp: { sizeBytes: Number(stamp.size), mtimeNs: String(stamp.mtimeNs), inode: String(stamp.ino) } },
    };
    await expect(
      ensureDelta({ ...held, adapter: { ...held.adapter, stamp: { ...held.adapter.stamp, sizeBytes: 1 } } }, native),
    ).rejects.toMatchObject({ code: "DELTA_ADAPTER_CHANGED" });
    expect((await ensureDelta(held, native)).cached).toBe(false);
  });

  test("names an adapter file that cannot be read", async () => {
    const path = join(root, "pickle.safetensors");
    writeFileSync(path, Buffer.concat([Buffer.from("PK\x03\x04"), Buffer.alloc(100)]));
    await expect(ensureDelta({ ...request, adapter: { path, sha256: "f".repeat(64) } }, native)).rejects.toMatchObject({
      code: "DELTA_ADAPTER_UNREADABLE",
      evidence: { reason: "PICKLE_REFUSED" },
    });
  });

  test("an f64 value beyond f32 counts as Inf", async () => {
    const data = new Float64Array(64).fill(1e300);
    const path = join(root, "huge.safetensors");
    await writeSafetensors(path, [
      { name: `${toQ}.lora_up.weight`, dtype: "F64", shape: [16, 4], data: new Uint8Array(data.buffer) },
      { name: `${toQ}.lora_down.weight`, dtype: "F32", shape: [4, 16], data: new Uint8Array(256) },
    ]);
    expect((await ensureDelta({ ...request, adapter: { path, sha256: "9".repeat(64) } }, native)).nonFinite).toEqual([
      `${toQ}.lora_up.weight`,
    ]);
  });

  test("lists the keys of tensors with NaN or Inf, now and from the cache", async () => {
    const bad = await requestFor("nan.safetensors", { ...loraQ, [`${toQ}.lora_up.weight`]: { shape: [16, 4], values: [0, NaN] } });
    for (const cached of [false, true])
      expect(await ensureDelta(bad, native)).toMatchObject({ cached, nonFinite: [`${toQ}.lora_up.weight`] });
  });

  test("an adapter that changes nothing carries the likely cause", async () => {
    const sdxl = "lora_unet_input_blocks_4_1_transformer_blocks_1_attn2_to_k";
    const cases: [string, Parameters<typeof writeAdapter>[1], RegExp][] = [
      [
        "for-sdxl",
        { [`${sdxl}.lora_up.weight`]: { shape: [640, 4] }, [`${sdxl}.lora_down.weight`]: { shape: [4, 2048] } },
        /made for sdxl \(condition width 2048 .*use it with a sdxl checkpoint/,
      ],
      [
        "for-flux",
        {
          "lora_unet_double_blocks_0_img_attn_qkv.lora_up.weight": { shape: [9, 4] },
          "lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight": { shape: [4, 3072] },
        },
        /made for flux .*input width 3072/,
      ],
      [
        "for-hunyuan",
        { "lora_unet_double_blocks_0_img_mod_linear.lora_up.weight": { shape: [9, 4] } },
        /made for hunyuan-video .*use it with a hunyuan-video checkpoint/,
      ],
      ["for-auraflow", { "lora_unet_double_layers_0_attn_w1q.lora_up.weight": { shape: [9, 4] } }, /made for AuraFlow .*not supported/],
      [
        "peft",
        {
          "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.lora_A.weight": { shape: [4, 768] },
          "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.lora_B.weight": { shape: [16, 4] },
        },
        /right family, but: ComfyUI does not know this spelling; extended mode/,
      ],
      ["text-encoder", { "lora_te_text_model_encoder_layers_0_mlp_fc1.lora_up.weight": { shape: [9, 4] } }, /text encoder/],
      ["empty", {}, /no adapter tensors/],
    ];
    for (const [name, tensors, text] of cases) {
      const ready = await ensureDelta(await requestFor(`${name}.safetensors`, tensors), native);
      expect(ready.header.terms, name).toEqual([]);
      expect(ready.header.problem, name).toMatchObject({ code: "DELTA_NO_WEIGHT_CHANGES", message: expect.stringMatching(text) });
    }
  });

  test("warns when most of an adapter does not fit", async () => {
    const misfits = Object.fromEntries(
      [1, 2, 3, 4, 5].flatMap((n) => [
        [`lora_unet_input_blocks_4_1_transformer_blocks_${n}_attn2_to_k.lora_up.weight`, { shape: [640, 4] }],
        [`lora_unet_input_blocks_4_1_transformer_blocks_${n}_attn2_to_k.lora_down.weight`, { shape: [4, 2048] }],
      ]),
    );
    const ready = await ensureDelta(await requestFor("mixed.safetensors", { ...loraQ, ...misfits }), native);
    expect(ready.header.warnings).toEqual(["only 17 % of the adapter's modules fit this checkpoint: found sdxl, expected sd15"]);
  });

  test("stops when cancelled and leaves no file", async () => {
    const aborted = { ...request, folder: join(root, "aborted") };
    await expect(ensureDelta(aborted, native, AbortSignal.abort())).rejects.toMatchObject({ name: "AbortError" });
    expect(readdirSync(aborted.folder)).toEqual([]);
  });
});

describe("exported deltas", () => {
  test("come back as the same terms and factors", async () => {
    const request = await requestFor("shared.safetensors", loraQ);
    const ready = await ensureDelta(request, native);
    const out = join(root, "shared.trt_lora");
    await exportDelta({
      delta: ready.path,
      out,
      base: { name: "base.safetensors", sha256: null },
      adapter: { name: "shared.safetensors" },
      strength: 0.8,
    });
    const header = await native.readHeader(out);
    expect(header.metadata).toMatchObject({
      base: "base.safetensors",
      adapter: "shared.safetensors",
      adapter_sha256: request.adapter.sha256,
      strength: "0.8",
    });
    const again = await ensureDelta({ ...request, adapter: { path: out, sha256: "e".repeat(64) } }, native);
    expect(again.header.terms).toEqual(ready.header.terms);
    expect(again.header.warnings).toEqual(["the delta was exported for use at strength 0.8"]);
    const [one, two] = await Promise.all([ready.path, again.path].map(async (path) => openDelta(await native.openTensorFile(path))));
    for (const name of one!.factorNames) expect(await two!.factor(name)).toEqual(await one!.factor(name));
    await one!.close();
    await two!.close();

    const elsewhere = { ...request, adapter: { path: out, sha256: "d".repeat(64) }, target: { ...target, structure: "77".repeat(32) } };
    await expect(ensureDelta(elsewhere, native)).rejects.toMatchObject({ code: "DELTA_OTHER_STRUCTURE" });
    const bytes = readFileSync(out);
    bytes[bytes.length - 30] = (bytes[bytes.length - 30] ?? 0) ^ 1;
    writeFileSync(out, bytes);
    await expect(ensureDelta({ ...request, adapter: { path: out, sha256: "c".repeat(64) } }, native)).rejects.toMatchObject({
      code: "DELTA_DAMAGED",
    });
  });

  test("of another version or with terms that do not fit are refused", async () => {
    const request = await requestFor("versioned.safetensors", loraQ);
    const { header } = await ensureDelta(request, native);
    const write = (metadata: unknown): Promise<DeltaRequest> =>
      requestFor("forged.safetensors", { "~checks": { shape: [4] } }, { refit_delta: JSON.stringify(metadata) });
    await expect(ensureDelta(await write({ ...header, formatVersion: 2 }), native)).rejects.toMatchObject({ code: "DELTA_VERSION" });
    await expect(ensureDelta(await write({ ...header, terms: [{ kind: "lowRank" }] }), native)).rejects.toMatchObject({
      code: "DELTA_DAMAGED",
    });
    await expect(ensureDelta(await write("not an object"), native)).rejects.toMatchObject({ code: "DELTA_DAMAGED" });
  });
});

function stampOf(path: string) {
  const stamp = statSync(path, { bigint: true });
  return { path, sizeBytes: Number(stamp.size), mtimeNs: String(stamp.mtimeNs), inode: String(stamp.ino) };
}

describe("TensorRT-Redux files", () => {
  const parameter = "input_blocks.1.1.transformer_blocks.0.attn1.to_q.weight";
  const metadata = { base_engine: "sdxl.engine", lora_file: "style.safetensors", lora_strength: "0.8", num_deltas: "2" };

  test("are refused by name without their base", async () => {
    const request = await requestFor("redux.trt_lora", { [parameter]: { shape: [16, 16] } }, metadata);
    await expect(ensureDelta(request, native)).rejects.toMatchObject({
      code: "DELTA_REDUX_NEEDS_BASE",
      message: expect.stringContaining("style.safetensors"),
    });
  });

  test("become differences to their base, and say what they could not place", async () => {
    const basePath = join(root, "base.safetensors");
    await writeAdapter(basePath, { [`model.diffusion_model.${parameter}`]: { shape: [16, 16] } }, {}, 7);
    const base = {
      files: [stampOf(basePath)],
      parameters: {
        [parameter]: {
          shape: [16, 16],
          pieces: [{ file: 0, key: `model.diffusion_model.${parameter}`, dtype: "F32" as const, start: 0, length: 16, swapHalves: false }],
        },
      },
    };
    const request = await requestFor(
      "redux2.trt_lora",
      { [`unet.${parameter}`]: { shape: [16, 16] }, "onnx::MatMul_12": { shape: [16, 16] } },
      metadata,
    );
    const ready = await ensureDelta({ ...request, base }, native);
    expect(ready.header).toMatchObject({
      terms: [{ kind: "dense", target: { parameter } }],
      report: { failed: [{ key: "onnx::MatMul_12" }] },
    });
    expect(ready.header.warnings[0]).toContain("right only if the base");
    const delta = await openDelta(await native.openTensorFile(ready.path));
    const floats = (bytes: Uint8Array): Float32Array => new Float32Array(bytes.slice().buffer);
    const [file, own] = [await native.openTensorFile(basePath), await native.openTensorFile(request.adapter.path)];
    const pristine = floats(await file.read(`model.diffusion_model.${parameter}`));
    const modified = floats(await own.read(`unet.${parameter}`));
    expect([...floats((await delta.factor("f000000")).data)]).toEqual([
      ...modified.map((value, index) => Math.fround(value - pristine[index]!)),
    ]);
    await Promise.all([delta.close(), file.close(), own.close()]);
  });

  test("name a base that has no floating-point values", async () => {
    const basePath = join(root, "ints.safetensors");
    await writeAdapter(basePath, { w: { shape: [16, 16], dtype: "I64" } });
    const base = {
      files: [stampOf(basePath)],
      parameters: {
        [parameter]: { shape: [16, 16], pieces: [{ file: 0, key: "w", dtype: "I64" as const, start: 0, length: 16, swapHalves: false }] },
      },
    };
    const request = await requestFor("redux3.trt_lora", { [parameter]: { shape: [16, 16] } }, metadata);
    await expect(ensureDelta({ ...request, base }, native)).rejects.toMatchObject({ code: "DELTA_BASE_UNREADABLE" });
  });
});
