// How the tensors of one adapted module are called, behind the module's name. Table: docs/develop/adapters.md, "Spellings".

/** Spellings of a LoRA pair in priority order: the first whose `up` is in the file is used. */
export const loraSpellings = [
  { up: ".lora_up.weight", down: ".lora_down.weight", mid: ".lora_mid.weight" },
  { up: "_lora.up.weight", down: "_lora.down.weight" },
  { up: ".lora_B.weight", down: ".lora_A.weight" },
  { up: ".lora.up.weight", down: ".lora.down.weight" },
  { up: ".lora_B", down: ".lora_A" },
  { up: ".lora_linear_layer.up.weight", down: ".lora_linear_layer.down.weight" },
  { up: ".lora_B.default.weight", down: ".lora_A.default.weight" },
] as const;

const loraSuffixes = loraSpellings.flatMap((spelling) => [spelling.up, spelling.down, ...("mid" in spelling ? [spelling.mid] : [])]);

/** Suffixes by the kind that they give away; shared ones (alpha, DoRA magnitude) tell nothing. */
export const kindSuffixes = {
  lora: loraSuffixes,
  loha: [".hada_w1_a", ".hada_w1_b", ".hada_w2_a", ".hada_w2_b", ".hada_t1", ".hada_t2"],
  lokr: [".lokr_w1", ".lokr_w2", ".lokr_w1_a", ".lokr_w1_b", ".lokr_w2_a", ".lokr_w2_b", ".lokr_t2"],
  glora: [".a1.weight", ".a2.weight", ".b1.weight", ".b2.weight"],
  oft: [".oft_blocks", ".rescale"],
  diff: [".diff", ".diff_b"],
  norm: [".w_norm", ".b_norm"],
  set: [".set_weight"],
  ia3: [".on_input"],
} as const;

const sharedSuffixes = [".alpha", ".dora_scale", ".reshape_weight", ".lora_magnitude_vector", ".lora_B.bias", ".weight", ".scalar"];

/** Suffixes whose tensors are small and are read as numbers, not kept as factors. */
export const numberSuffixes = [".alpha", ".reshape_weight", ".on_input"] as const;

export const allSuffixes: readonly string[] = [...Object.values(kindSuffixes).flat(), ...sharedSuffixes];

/** Every way to split a key into module name and known suffix; a key may end in two of them (`….lora_B.weight` and `.weight`). */
export function splitKey(key: string): { stem: string; suffix: string }[] {
  return allSuffixes
    .filter((suffix) => key.endsWith(suffix) && key.length > suffix.length)
    .map((suffix) => ({ stem: key.slice(0, -suffix.length), suffix }));
}

/** The module name before the longest known suffix; null for a key that is no adapter tensor. */
export function moduleName(key: string): string | null {
  const splits = splitKey(key);
  if (splits.length === 0) return null;
  return splits.reduce((best, split) => (split.suffix.length > best.suffix.length ? split : best)).stem;
}
