import { createHash } from "node:crypto";
import { exchangeHalves, type ParameterLayout } from "./refit-map.ts";

/** SHA-256 of a buffer in engine layout as if it were in canonical layout. */
export function sha256(layout: ParameterLayout, buffer: Uint8Array, bytesPerElement: number): string {
  if (!layout.weights.some((view) => view.swapHalves)) return createHash("sha256").update(buffer).digest("hex");
  const copy = buffer.slice();
  exchangeHalves(layout, copy, bytesPerElement);
  return createHash("sha256").update(copy).digest("hex");
}
