// Quantised formats of other libraries, told by the names of their tensors. They are refused by name: read as if plain, they would give noise.

const bySuffix: readonly (readonly [RegExp, string])[] = [
  [/\.quant_state\.bitsandbytes__nf4$/, "bitsandbytes nf4"],
  [/\.quant_state\.bitsandbytes__fp4$/, "bitsandbytes fp4"],
  [/\.(absmax|quant_map|nested_absmax|nested_quant_map)$/, "bitsandbytes"],
  [/\.SCB$/, "bitsandbytes int8"],
  [/\.(proj_down|proj_up|smooth_factor|smooth_factor_orig|wscales|wtscale|wzeros)$/, "svdquant (nunchaku)"],
  [/\.(qzeros|g_idx)$/, "awq or gptq"],
  [/\.qweight$/, "packed integers (awq, gptq or svdquant)"],
  [/\.(weight_s_rel|weight_s_channel|weight_codebook)$/, "asym_w4a8_int8"],
  [/\.W_q$/, "hqq"],
  [/\.weight\._(data|scale|shift)$/, "quanto"],
  [/\.weight_packed$/, "compressed-tensors"],
];

/** Name of the format that a tensor of this name belongs to; null for every other name. */
export function foreignFormat(key: string): string | null {
  return bySuffix.find(([pattern]) => pattern.test(key))?.[1] ?? null;
}
