// Numbers of a seed, as PyTorch's CPU generator draws them: a seed names the same picture here, in diffusers and in ComfyUI, whatever engine serves it.
// Sources: Matsumoto & Nishimura 1998 (MT19937); PyTorch's at::mt19937 and normal_fill (aten/src/ATen/native/cpu/DistributionTemplates.h).

const words = 624;
const offset = 397;
/** Numbers that one call of the transform takes and gives. */
const block = 16;

/** Draws in order; one generator belongs to one picture. A seed counts modulo 2^32, as in PyTorch. */
export interface Generator {
  /** Standard normal numbers, as `torch.randn(count, generator=…)` on the CPU in f32 (to its last bit or two: PyTorch's own vary with the processor). */
  readonly normal: (count: number) => Float32Array;
}

function twister(seed: number): () => number {
  const state = new Uint32Array(words);
  state[0] = seed % 2 ** 32;
  for (let index = 1; index < words; index += 1) {
    const last = state[index - 1] ?? 0;
    state[index] = Math.imul(1_812_433_253, last ^ (last >>> 30)) + index;
  }
  let next = words;
  const twist = (): void => {
    for (let index = 0; index < words; index += 1) {
      const mixed = ((state[index] ?? 0) & 0x8000_0000) | ((state[(index + 1) % words] ?? 0) & 0x7fff_ffff);
      state[index] = (state[(index + offset) % words] ?? 0) ^ (mixed >>> 1) ^ (mixed & 1 ? 0x9908_b0df : 0);
    }
    next = 0;
  };
  return () => {
    if (next === words) twist();
    let y = state[next] ?? 0;
    next += 1;
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c_5680;
    y ^= (y << 15) & 0xefc6_0000;
    return (y ^ (y >>> 18)) >>> 0;
  };
}

export function generatorOf(seed: number): Generator {
  const random = twister(seed);
  const single = (): number => (random() & 0xff_ffff) / 2 ** 24;
  const double = (): number => {
    const high = random();
    const low = random();
    return ((high % 2 ** 21) * 2 ** 32 + low) / 2 ** 53;
  };
  /** The second number of the last pair that was drawn one by one. */
  let kept: number | null = null;

  function one(): number {
    if (kept !== null) {
      const value = kept;
      kept = null;
      return value;
    }
    const angle = 2 * Math.PI * double();
    const radius = Math.sqrt(-2 * Math.log1p(-double()));
    kept = radius * Math.sin(angle);
    return radius * Math.cos(angle);
  }

  /** Box and Muller over sixteen uniform numbers in place: the first eight give radii, the others angles. */
  function transform(values: Float32Array, start: number): void {
    for (let index = start; index < start + block / 2; index += 1) {
      const radius = Math.sqrt(-2 * Math.log(1 - (values[index] ?? 0)));
      const angle = 2 * Math.PI * (values[index + block / 2] ?? 0);
      values[index] = radius * Math.cos(angle);
      values[index + block / 2] = radius * Math.sin(angle);
    }
  }

  return {
    normal(count) {
      const values = new Float32Array(count);
      if (count < block) {
        for (let index = 0; index < count; index += 1) values[index] = one();
        return values;
      }
      for (let index = 0; index < count; index += 1) values[index] = single();
      const whole = count - (count % block);
      for (let start = 0; start < whole; start += block) transform(values, start);
      if (whole < count) {
        // The last sixteen are drawn anew, over what overlaps.
        for (let index = count - block; index < count; index += 1) values[index] = single();
        transform(values, count - block);
      }
      return values;
    },
  };
}
