// Block scales in tiles, and the E2M1 codes of nvfp4. Layouts: docs/develop/quantised.md.

import type { Storage } from "./types.ts";

/** Values of the 16 codes. */
export const e2m1Values = Float32Array.of(0, 0.5, 1, 1.5, 2, 3, 4, 6, -0, -0.5, -1, -1.5, -2, -3, -4, -6);

/** Columns that share a block scale. */
export const blockColumns = { nvfp4: 16, mxfp8: 32 } as const;
/** What rows and columns are padded to. */
export const paddedTo = { nvfp4: 16, mxfp8: 32 } as const;

/** Rows and columns of a tensor stored so are padded to a multiple of this. */
export function blockPadding(storage: Storage | undefined): number {
  return storage === undefined || storage.format === "scaled" ? 1 : paddedTo[storage.format];
}

/** Byte of the scale of row `row` and block `block`: tiles of 128 rows and 4 blocks, a row of tiles after the other; inside a tile rows r, r+32, r+64, r+96 lie side by side. */
export function tiledIndex(row: number, block: number, blocks: number): number {
  const tile = (row >> 7) * Math.ceil(blocks / 4) + (block >> 2);
  return tile * 512 + (row & 31) * 16 + ((row & 127) >> 5) * 4 + (block & 3);
}

/** Bytes of block scales with their padding. */
export function tiledBytes(rows: number, blocks: number): number {
  return Math.ceil(rows / 128) * Math.ceil(blocks / 4) * 512;
}

/** 2^(code - 127) by code. E8M0 has no zero; 255 is NaN. */
export const e8m0Values = Float32Array.from({ length: 256 }, (_, code) => (code === 255 ? NaN : 2 ** (code - 127)));

/** Values of E4M3 codes (no infinity, largest 448). */
export const e4m3Values = Float32Array.from({ length: 256 }, (_, code) => {
  const exponent = (code >> 3) & 15;
  const mantissa = code & 7;
  if ((code & 127) === 127) return NaN;
  return (code > 127 ? -1 : 1) * (exponent === 0 ? mantissa * 2 ** -9 : (8 + mantissa) * 2 ** (exponent - 10));
});
