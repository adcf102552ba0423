import { basename } from "node:path";

import type { Dtype } from "../api.ts";
import { dtypeBytes } from "../dtypes.ts";
import { SafetensorsError } from "../errors.ts";
import { maxHeaderBytes } from "../limits.ts";
import { BufferedWriter } from "./buffered-writer.ts";
import { replaceFile } from "./replace-file.ts";

/** One tensor to write. `data` is asked for when its turn comes, so a file of many GB never sits in memory. */
export interface TensorSource {
  readonly name: string;
  readonly dtype: Dtype;
  readonly shape: readonly number[];
  readonly data: Uint8Array | (() => Uint8Array | Promise<Uint8Array> | AsyncIterable<Uint8Array>);
  /** Asked for after all others: its place in the file is kept. For what is only known with a tensor that is written later, as a scale. Held in memory whole. */
  readonly late?: true;
}

export interface WriteOptions {
  readonly signal?: AbortSignal;
  /** False: no fsync, for caches whose readers verify them; a power cut may then leave a file that does not verify. Default true. */
  readonly durable?: boolean;
  /** Called after each tensor with bytes written so far and in all. */
  readonly onProgress?: (doneBytes: number, totalBytes: number) => void;
}

/**
 * Writes a safetensors file: header first, tensors one by one behind it, through a temp file that is renamed over `path` at the end.
 * Tensors are ordered by element size, widest first, then by name (as the reference writer does), so that all are aligned.
 * Throws SafetensorsError DUPLICATE_KEY, TENSOR_INVALID_INFO or HEADER_TOO_LARGE, and what the file system throws.
 */
export async function writeSafetensors(
  path: string,
  tensors: readonly TensorSource[],
  metadata: Readonly<Record<string, string>> = {},
  options: WriteOptions = {},
): Promise<{ sizeBytes: number }> {
  const file = basename(path);
  const ordered = [...tensors].sort(
    (a, b) => dtypeBytes[b.dtype] - dtypeBytes[a.dtype] || (a.name < b.name ? -1 : Number(a.name > b.name)),
  );
  const { header, sizes } = layOut(ordered, metadata, file);
  const totalBytes = sizes.reduce((sum, size) => sum + size, header.byteLength);
  await replaceFile(
    path,
    async (handle) => {
      const out = new BufferedWriter(handle);
      await out.write(header);
      let position = header.byteLength;
      const late: (() => Promise<void>)[] = [];
      for (const [index, tensor] of ordered.entries()) {
        options.signal?.throwIfAborted();
        const bytes = sizes[index] ?? 0;
        if (tensor.late === true) {
          const place = position;
          late.push(async () => {
            const own = new BufferedWriter(handle, place, Math.min(bytes, 1 << 20));
            await writeTensor(own, tensor, bytes, file);
            await own.flush();
          });
          await writeTensor(out, { ...tensor, data: new Uint8Array(bytes) }, bytes, file);
        } else {
          await writeTensor(out, tensor, bytes, file);
        }
        position += bytes;
        options.onProgress?.(position, totalBytes);
      }
      await out.flush();
      for (const write of late) await write();
    },
    { durable: options.durable ?? true },
  );
  return { sizeBytes: totalBytes };
}

/** The header with its length in front, space-padded so that the data section starts at a multiple of 8. */
function layOut(
  tensors: readonly TensorSource[],
  metadata: Readonly<Record<string, string>>,
  file: string,
): { header: Buffer; sizes: number[] } {
  const names = new Set<string>();
  const sizes: number[] = [];
  const fields: string[] = [];
  if (Object.keys(metadata).length > 0) fields.push(`"__metadata__":${JSON.stringify(metadata)}`);
  let begin = 0;
  for (const { name, dtype, shape } of tensors) {
    if (names.has(name) || name === "__metadata__")
      throw new SafetensorsError("DUPLICATE_KEY", file, "this name is already taken in the file", { tensor: name });
    names.add(name);
    const bytes = shape.reduce((product, dim) => product * dim, dtypeBytes[dtype]);
    if (shape.some((dim) => !Number.isSafeInteger(dim) || dim < 0) || !Number.isSafeInteger(begin + bytes)) {
      throw new SafetensorsError("TENSOR_INVALID_INFO", file, `the shape [${shape.join(", ")}] is not one`, { tensor: name });
    }
    fields.push(`${JSON.stringify(name)}:${JSON.stringify({ dtype, shape, data_offsets: [begin, begin + bytes] })}`);
    sizes.push(bytes);
    begin += bytes;
  }
  const json = Buffer.from(`{${fields.join(",")}}`);
  const padded = Math.ceil(json.byteLength / 8) * 8;
  if (padded > maxHeaderBytes)
    throw new SafetensorsError("HEADER_TOO_LARGE", file, `the header needs ${padded} bytes, the container's cap is ${maxHeaderBytes}`);
  const header = Buffer.alloc(8 + padded, " ");
  header.writeBigUInt64LE(BigInt(padded));
  json.copy(header, 8);
  return { header, sizes };
}

async function writeTensor(out: BufferedWriter, tensor: TensorSource, bytes: number, file: string): Promise<void> {
  const data = typeof tensor.data === "function" ? await tensor.data() : tensor.data;
  const misfit = (): SafetensorsError =>
    new SafetensorsError("TENSOR_INVALID_INFO", file, `its shape and dtype need ${bytes} bytes, its data has another length`, {
      tensor: tensor.name,
    });
  let written = 0;
  for await (const chunk of data instanceof Uint8Array ? [data] : data) {
    if (written + chunk.byteLength > bytes) throw misfit();
    await out.write(chunk);
    written += chunk.byteLength;
  }
  if (written !== bytes) throw misfit();
}
