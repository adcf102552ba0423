import type { FloatDtype } from "../api.ts";
import { decodeTable, e4m3, e5m2, encodeBf16, encodeBits, f16, roundToOddBits, type Minifloat } from "./minifloat.ts";

const canonicalNan = 0x7fc00000;
const canonicalNan64 = 0x7ff8000000000000n;
const tables = { F16: decodeTable(f16), F8_E4M3: decodeTable(e4m3), F8_E5M2: decodeTable(e5m2) };

/** Elements [start, start + count) of `source` as f32 into `out`. F64 is rounded to nearest; the others are exact. */
export function decodeTo(source: Uint8Array, from: FloatDtype, start: number, count: number, out: Float32Array): void {
  switch (from) {
    case "F32":
      out.set(view(Float32Array, source, start, count));
      return;
    case "F64":
      out.set(view(Float64Array, source, start, count));
      return;
    case "BF16": {
      const codes = view(Uint16Array, source, start, count);
      const bits = new Uint32Array(out.buffer, out.byteOffset, count);
      for (let i = 0; i < count; i++) bits[i] = (codes[i] as number) << 16;
      return;
    }
    case "F16":
      return decodeByTable(view(Uint16Array, source, start, count), tables.F16, out);
    case "F8_E4M3":
    case "F8_E5M2":
      return decodeByTable(view(Uint8Array, source, start, count), tables[from], out);
  }
}

function decodeByTable(codes: Uint8Array | Uint16Array, table: Float32Array, out: Float32Array): void {
  for (let i = 0; i < codes.length; i++) out[i] = table[codes[i] as number] as number;
}

/** Writes `values` (f32, or f64 rounded once) to elements [start, …) of `target`. */
export function encodeFrom(values: Float32Array | Float64Array, target: Uint8Array, to: FloatDtype, start: number): void {
  const count = values.length;
  if (to === "F64") {
    const out = Float64Array.from(values);
    const bits = new BigUint64Array(out.buffer);
    for (let i = 0; i < count; i++) if (Number.isNaN(out[i])) bits[i] = canonicalNan64;
    writeBack(target, start * 8, out);
    return;
  }
  if (to === "F32") {
    const out = Float32Array.from(values);
    canonicaliseNans(out);
    writeBack(target, start * 4, out);
    return;
  }
  const bits = bitsOf(values);
  if (to === "BF16") {
    const out = new Uint16Array(count);
    for (let i = 0; i < count; i++) out[i] = encodeBf16(bits[i] as number);
    writeBack(target, start * 2, out);
  } else if (to === "F16") {
    const out = new Uint16Array(count);
    encodeAll(bits, f16, out);
    writeBack(target, start * 2, out);
  } else {
    const out = new Uint8Array(count);
    encodeAll(bits, to === "F8_E4M3" ? e4m3 : e5m2, out);
    writeBack(target, start, out);
  }
}

function encodeAll(bits: Uint32Array, format: Minifloat, out: Uint8Array | Uint16Array): void {
  for (let i = 0; i < bits.length; i++) out[i] = encodeBits(bits[i] as number, format);
}

function bitsOf(values: Float32Array | Float64Array): Uint32Array {
  if (values instanceof Float32Array) return new Uint32Array(values.buffer, values.byteOffset, values.length);
  const bits = new Uint32Array(values.length);
  for (let i = 0; i < bits.length; i++) bits[i] = roundToOddBits(values[i] as number);
  return bits;
}

/** NaN payloads are not carried: one quiet NaN, as the native code writes it. */
function canonicaliseNans(values: Float32Array): void {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  for (let i = 0; i < values.length; i++) if (Number.isNaN(values[i])) bits[i] = canonicalNan;
}

function writeBack(target: Uint8Array, byteOffset: number, values: ArrayBufferView): void {
  target.set(new Uint8Array(values.buffer, values.byteOffset, values.byteLength), byteOffset);
}

interface ViewType<T> {
  readonly BYTES_PER_ELEMENT: number;
  new (buffer: ArrayBufferLike, byteOffset: number, length: number): T;
}

/** A typed view where the bytes are aligned, a copy where they are not: tensors in a file start anywhere. */
export function view<T>(Type: ViewType<T>, source: Uint8Array, start: number, count: number): T {
  const size = Type.BYTES_PER_ELEMENT;
  const offset = source.byteOffset + start * size;
  if (offset % size === 0) return new Type(source.buffer, offset, count);
  return new Type(source.slice(start * size, (start + count) * size).buffer, 0, count);
}
