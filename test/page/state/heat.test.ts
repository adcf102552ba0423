import { describe, expect, test } from "vitest";
import { heatOf, placeOf } from "../../../page/src/state/heat.ts";

describe("the heat map", () => {
  test.each([
    ["input_blocks.4.1.transformer_blocks.0.attn1.to_q.weight", "input_blocks.4", "attn1.to_q"],
    ["middle_block.1.proj_in.weight", "middle_block.1", "proj_in"],
    ["double_blocks.18.img_attn.qkv.weight", "double_blocks.18", "img_attn.qkv"],
    ["layers.3.attention.out.weight", "layers.3", "attention.out"],
    ["txt_in.weight", "txt_in", "txt_in"],
    ["out.2.weight", "out.2", "2"],
  ])("%s lies in %s, column %s", (parameter, block, part) => {
    expect(placeOf(parameter)).toEqual({ block, part });
  });

  test("norms of one cell add up as squares, and blocks come in the order of their numbers", () => {
    const layer = (parameter: string, norm: number | null) => ({ parameter, kinds: ["lowRank"], rank: 4, norm });
    const heat = heatOf([layer("blocks.10.a.weight", 3), layer("blocks.10.a.bias", 4), layer("blocks.2.a.weight", null)]);
    expect(heat.rows.map(({ block, norm }) => [block, norm])).toEqual([
      ["blocks.2", 0],
      ["blocks.10", 5],
    ]);
    expect(heat.rows[0]?.cells[0]).toEqual({ norm: 0, layers: 1, unmeasured: 1 });
    expect(heat.largest).toBe(5);
  });
});
