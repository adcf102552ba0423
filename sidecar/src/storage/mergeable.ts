import { isFloatDtype, type FloatDtype } from "@refit-sidecar/native";
import { exchangeHalves, readValues } from "./decode.ts";
import type { StoredParameter } from "./checkpoint-files.ts";
import { asBytes } from "../terms/index.ts";

/** Values as the merge kernels take them: value = number * scale, in canonical row order. */
export interface Mergeable {
  readonly data: Uint8Array;
  readonly dtype: FloatDtype;
  readonly scale: number;
}

/** Reads a parameter for a merge: as it is stored where the kernels can read that, decoded to f32 otherwise. `take` gives the memory for stored bytes. */
export async function readMergeable(
  stored: StoredParameter,
  take: (bytes: number) => Uint8Array = (bytes) => new Uint8Array(bytes),
): Promise<Mergeable> {
  const dtype = stored.pieces[0]?.piece.dtype ?? "F32";
  const scale = isFloatDtype(dtype) ? await singleScale(stored) : null;
  if (scale === null || !isFloatDtype(dtype)) {
    const values = await readValues(stored);
    return { data: asBytes(values), dtype: "F32", scale: 1 };
  }
  const data = take(stored.bytes);
  await readStored(stored, data);
  return { data, dtype, scale };
}

/** The pieces' bytes below each other, in canonical row order. */
export async function readStored(stored: StoredParameter, target: Uint8Array): Promise<void> {
  let offset = 0;
  for (const piece of stored.pieces) {
    const part = target.subarray(offset, offset + piece.bytes);
    await piece.readInto(part);
    if (piece.piece.swapHalves) exchangeHalves(part);
    offset += piece.bytes;
  }
}

/** The number that every stored one is multiplied with; null where there is more to decoding. */
async function singleScale({ pieces }: StoredParameter): Promise<number | null> {
  if (pieces.every(({ piece }) => piece.storage === undefined)) return 1;
  const [only] = pieces;
  const storage = only?.piece.storage;
  if (
    only === undefined ||
    pieces.length > 1 ||
    storage?.format !== "scaled" ||
    storage.rotation !== undefined ||
    storage.columnScale !== undefined
  )
    return null;
  const scales = await only.scales();
  return scales !== null && scales.scale.length === 1 ? (scales.scale[0] ?? null) : null;
}
