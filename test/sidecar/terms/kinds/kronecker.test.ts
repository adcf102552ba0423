// Which LoKr with a core ComfyUI can evaluate: what torch.kron said to each of the 256 cases of one and more.

import { expect, test } from "vitest";
import { torchCanView } from "../../../../sidecar/src/terms/kinds/kronecker.ts";

/** A bit for every case, the first in the highest: ranks, rows and columns of both sides, the kernel's sides; the last size changes fastest, one before more. Torch 2.13, one being 1, more 2 to 6. */
const said = "fffffffafff0fff0fffff8f8ff80f880fffffff0ff80ff80fffffff0ff80ff80";

test("a LoKr with a core is kept back exactly where torch refuses its view", () => {
  const found = Array.from({ length: 256 }, (_, number) => {
    const size = (place: number): number => 1 + ((number >> (7 - place)) & 1);
    return torchCanView({
      ranks: [size(0), size(1)],
      first: [size(2), size(3)],
      second: [size(4), size(5)],
      kernel: [size(6), size(7)],
    });
  });
  const bits = found.map((fits) => (fits ? "1" : "0")).join("");
  expect(BigInt(`0b${bits}`).toString(16).padStart(64, "0")).toBe(said);
});
