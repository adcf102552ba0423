// What the tests of reported faults share: small models and adapters as files, and the command line as a user runs it.

import { spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { native, writeSafetensors, type Dtype, type FloatDtype } from "@refit-sidecar/native";
import { numbers } from "../sidecar/delta/files.ts";

export const cli = fileURLToPath(new URL("../../sidecar/bin/refit-sidecar.mjs", import.meta.url));
export const demo = fileURLToPath(new URL("../../sidecar/demo/", import.meta.url));
export const newFolder = (): string => mkdtempSync(join(tmpdir(), "refit-reported-"));
export const hashOf = (path: string): string => createHash("sha256").update(readFileSync(path)).digest("hex");

export interface Given {
  readonly shape: readonly number[];
  readonly dtype?: Dtype;
  /** Repeated to the tensor's length; from a generator when absent. */
  readonly values?: readonly number[];
}

/** Writes tensors of any dtype; the values of floating-point ones are given as numbers. */
export async function write(
  path: string,
  tensors: Readonly<Record<string, Given>>,
  metadata: Readonly<Record<string, string>> = {},
  seed = 1,
): Promise<string> {
  const next = numbers(seed);
  const sources = [];
  for (const [name, { shape, dtype = "F32", values }] of Object.entries(tensors)) {
    const count = shape.reduce((product, dim) => product * dim, 1);
    const f32 = Float32Array.from({ length: count }, (_, index) => values?.[index % values.length] ?? 0.1 * next());
    const bytes = { BOOL: 1, U8: 1, I8: 1, I64: 8 }[dtype as string];
    const data = new Uint8Array(count * (bytes ?? (dtype === "F32" ? 4 : dtype.startsWith("F8") ? 1 : dtype === "F64" ? 8 : 2)));
    if (bytes === 8) new BigInt64Array(data.buffer).set([...f32].map((value) => BigInt(Math.round(value))));
    else if (bytes === 1) data.set(f32);
    else await native.convert(new Uint8Array(f32.buffer), "F32", data, dtype as FloatDtype, count);
    sources.push({ name, dtype, shape, data });
  }
  await writeSafetensors(path, sources, metadata);
  return path;
}

/** Values of one tensor as f32. */
export async function valuesOf(path: string, name: string): Promise<Float32Array> {
  const file = await native.openTensorFile(path);
  try {
    const entry = file.header.entries.get(name);
    if (entry === undefined) throw new Error(`${path} has no ${name}`);
    const count = entry.shape.reduce((product, dim) => product * dim, 1);
    const out = new Float32Array(count);
    await native.convert(await file.read(name), entry.dtype as FloatDtype, new Uint8Array(out.buffer), "F32", count);
    return out;
  } finally {
    await file.close();
  }
}

export interface Ran {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
  /** The last line of stdout, when it is JSON. */
  readonly last: Record<string, unknown>;
}

function ran(status: number | null, stdout: string, stderr: string): Ran {
  const line = stdout.trim().split("\n").at(-1) ?? "";
  return { status, stdout, stderr, last: line.startsWith("{") ? (JSON.parse(line) as Record<string, unknown>) : {} };
}

export function run(folder: string, ...args: string[]): Ran {
  const { status, stdout, stderr } = spawnSync(process.execPath, [cli, ...args], { encoding: "utf8", cwd: folder, maxBuffer: 1 << 28 });
  return ran(status, stdout, stderr);
}

/** The command with somebody at the other end of its pipe who decides when to read. */
export function runFor(
  folder: string,
  args: readonly string[],
  reader: (stdout: NodeJS.ReadableStream & { destroy(): void }) => Promise<string>,
  input?: string,
): Promise<Ran> {
  const child = spawn(process.execPath, [cli, ...args], { cwd: folder, stdio: ["pipe", "pipe", "pipe"] });
  if (input !== undefined) child.stdin.end(input);
  let stderr = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text));
  const closed = new Promise<number | null>((resolve) => child.once("close", resolve));
  return Promise.all([reader(child.stdout), closed]).then(([stdout, status]) => ran(status, stdout, stderr));
}

/** A small Flux denoiser of width 32. */
export function fluxModel(dtype: Dtype = "F32"): Record<string, Given> {
  const width = 32;
  const tensors: Record<string, Given> = {};
  const linear = (name: string, out: number, into: number) => {
    tensors[`${name}.weight`] = { shape: [out, into], dtype };
    tensors[`${name}.bias`] = { shape: [out], dtype };
  };
  for (const [name, into] of [
    ["img_in", 64],
    ["txt_in", 48],
    ["time_in.in_layer", 256],
    ["time_in.out_layer", width],
    ["vector_in.in_layer", 24],
    ["vector_in.out_layer", width],
    ["guidance_in.in_layer", 256],
    ["guidance_in.out_layer", width],
  ] as const)
    linear(name, width, into);
  for (const stream of ["img", "txt"]) {
    const part = `double_blocks.0.${stream}_`;
    linear(`${part}mod.lin`, 6 * width, width);
    linear(`${part}attn.qkv`, 3 * width, width);
    linear(`${part}attn.proj`, width, width);
    linear(`${part}mlp.0`, 4 * width, width);
    linear(`${part}mlp.2`, width, 4 * width);
    for (const norm of ["query_norm", "key_norm"]) tensors[`${part}attn.norm.${norm}.scale`] = { shape: [8], dtype };
  }
  linear("single_blocks.0.linear1", 7 * width, width);
  linear("single_blocks.0.linear2", width, 5 * width);
  linear("single_blocks.0.modulation.lin", 3 * width, width);
  for (const norm of ["query_norm", "key_norm"]) tensors[`single_blocks.0.norm.${norm}.scale`] = { shape: [8], dtype };
  linear("final_layer.linear", 64, width);
  linear("final_layer.adaLN_modulation.1", 2 * width, width);
  return tensors;
}

/** A LoRA pair on one module. */
export function pair(
  module: string,
  out: number,
  into: number,
  rank = 4,
  names: readonly [down: string, up: string] = [".lora_A.weight", ".lora_B.weight"],
): Record<string, Given> {
  return { [module + names[0]]: { shape: [rank, into] }, [module + names[1]]: { shape: [out, rank] } };
}
