// The one safetensors encoding of a set of tensors: sorted by element size (largest first, so that all are aligned) and name, no metadata.
// The file's SHA-256 is therefore a function of names, dtypes, shapes and bytes alone. Format: 8 bytes header length (u64 LE), JSON, data.

import { tensorDtypes, type TensorDtype } from "@refit-sidecar/protocol";

/** A tensor whose bytes come when asked for, in pieces. */
export interface TensorSource {
  readonly name: string;
  readonly dtype: TensorDtype;
  readonly shape: readonly number[];
  readonly bytes: number;
  readonly chunks: () => AsyncIterable<Uint8Array> | Iterable<Uint8Array>;
}

const dtypeNames: Readonly<Record<TensorDtype, string>> = { f32: "F32", f16: "F16", bf16: "BF16", u8: "U8", i64: "I64" };

export function inFileOrder<Source extends Pick<TensorSource, "name" | "dtype">>(sources: readonly Source[]): Source[] {
  return sources.toSorted((a, b) => tensorDtypes[b.dtype] - tensorDtypes[a.dtype] || (a.name < b.name ? -1 : a.name > b.name ? 1 : 0));
}

/** Length field and header for tensors in the order given. Padded with spaces to 8, as the format's own writer does. */
export function encodeHeader(sources: readonly Omit<TensorSource, "chunks">[]): Uint8Array {
  let end = 0;
  const rows = sources.map(({ name, dtype, shape, bytes }) => {
    const start = end;
    end += bytes;
    return `${JSON.stringify(name)}:${JSON.stringify({ dtype: dtypeNames[dtype], shape, data_offsets: [start, end] })}`;
  });
  const json = new TextEncoder().encode(`{${rows.join(",")}}`);
  const padded = Math.ceil(json.byteLength / 8) * 8;
  const head = new Uint8Array(8 + padded).fill(0x20);
  new DataView(head.buffer).setBigUint64(0, BigInt(padded), true);
  head.set(json, 8);
  return head;
}
