// Random adapters for the adapter fuzzer: real ones from the golden vectors, bent in every way that a header allows.
import { readFileSync } from "node:fs";

const suffixes = [
  ".lora_up.weight",
  ".lora_down.weight",
  ".lora_mid.weight",
  "_lora.up.weight",
  "_lora.down.weight",
  ".lora_B.weight",
  ".lora_A.weight",
  ".lora_B",
  ".lora_A",
  ".lora_B.default.weight",
  ".lora_A.default.weight",
  ".lora_A.other.weight",
  ".alpha",
  ".dora_scale",
  ".lora_magnitude_vector",
  ".reshape_weight",
  ".hada_w1_a",
  ".hada_w1_b",
  ".hada_w2_a",
  ".hada_w2_b",
  ".hada_t1",
  ".hada_t2",
  ".lokr_w1",
  ".lokr_w2",
  ".lokr_w1_a",
  ".lokr_w1_b",
  ".lokr_w2_a",
  ".lokr_w2_b",
  ".lokr_t2",
  ".a1.weight",
  ".a2.weight",
  ".b1.weight",
  ".b2.weight",
  ".oft_blocks",
  ".rescale",
  ".w_norm",
  ".b_norm",
  ".diff",
  ".diff_b",
  ".set_weight",
  ".weight",
  ".on_input",
  ".scalar",
  ".bias",
  "",
];
const prefixes = [
  "",
  "unet.",
  "transformer.",
  "diffusion_model.",
  "model.diffusion_model.",
  "base_model.model.",
  "lora_unet_",
  "lora_unet__",
  "lycoris_",
  "lora_te_",
  "bundle_emb.",
];
const dtypes = ["F32", "F16", "BF16", "F64", "F8_E4M3", "F8_E5M2", "I64", "I32", "U8", "BOOL"];
const bytes = { F64: 8, I64: 8, F32: 4, I32: 4, F16: 2, BF16: 2, F8_E4M3: 1, F8_E5M2: 1, U8: 1, BOOL: 1 };
const specials = [0, -0, 1, -1, 1e-45, 1e38, -1e38, NaN, Infinity, -Infinity, 2 ** 31, 1e300];

export function generator(seed) {
  let state = seed >>> 0;
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let value = Math.imul(state ^ (state >>> 15), state | 1);
    value ^= value + Math.imul(value ^ (value >>> 7), value | 61);
    return ((value ^ (value >>> 14)) >>> 0) / 4294967296;
  };
  const below = (count) => Math.floor(next() * count);
  return { next, below, pick: (list) => list[below(list.length)], chance: (share) => next() < share };
}

/** Header entries of a safetensors file with the values of its tensors. */
export function loadAdapter(path) {
  const file = readFileSync(path);
  const length = Number(file.readBigUInt64LE(0));
  const header = JSON.parse(file.subarray(8, 8 + length).toString("utf8"));
  delete header.__metadata__;
  return Object.entries(header).map(
    ([
      name,
      {
        dtype,
        shape,
        data_offsets: [from, to],
      },
    ]) => ({ name, dtype, shape, data: Uint8Array.prototype.slice.call(file, 8 + length + from, 8 + length + to) }),
  );
}

const sizeOf = (dtype, shape) => shape.reduce((product, dim) => product * dim, bytes[dtype]);

function values(random, dtype, shape) {
  const data = new Uint8Array(sizeOf(dtype, shape));
  const view = new DataView(data.buffer);
  if (dtype === "F32" && random.chance(0.7)) {
    for (let at = 0; at + 4 <= data.length; at += 4)
      view.setFloat32(at, random.chance(0.02) ? random.pick(specials) : random.next() * 2 - 1, true);
  } else if (dtype === "I64") {
    for (let at = 0; at + 8 <= data.length; at += 8)
      view.setBigInt64(at, BigInt(random.pick([0, 1, 8, 16, 32, 48, 64, -1, 1 << 30])), true);
  } else if (random.chance(0.9)) {
    for (let at = 0; at < data.length; at += 1) data[at] = random.below(256);
  }
  return data;
}

const randomShape = (random) => Array.from({ length: random.below(6) }, () => random.pick([0, 1, 1, 2, 3, 4, 8, 16, 24, 32]));

function mutate(random, tensors) {
  const index = random.below(tensors.length);
  const tensor = tensors[index];
  const stem = suffixes.reduce(
    (best, suffix) =>
      suffix !== "" && tensor.name.endsWith(suffix) && tensor.name.length - suffix.length < best.length
        ? tensor.name.slice(0, -suffix.length)
        : best,
    tensor.name,
  );
  const refill = (changes) => {
    const changed = { ...tensor, ...changes };
    tensors[index] = {
      ...changed,
      data: changed.data.length === sizeOf(changed.dtype, changed.shape) ? changed.data : values(random, changed.dtype, changed.shape),
    };
  };
  switch (random.below(10)) {
    case 0:
      return refill({ shape: randomShape(random) });
    case 1:
      return refill({ shape: tensor.shape.map((dim) => (random.chance(0.4) ? Math.max(0, dim + random.below(5) - 2) : dim)) });
    case 2:
      return refill({ dtype: random.pick(dtypes) });
    case 3:
      return refill({ name: stem + random.pick(suffixes) });
    case 4:
      return refill({ name: random.pick(prefixes) + tensor.name.replace(/^[a-z]+(_model)?[._]/, "") });
    case 5:
      return void tensors.splice(index, 1);
    case 6:
      return void tensors.push({ ...tensor, name: stem + random.pick(suffixes) });
    case 7: {
      const name = stem + random.pick([".alpha", ".dora_scale", ".reshape_weight", ".on_input", ".rescale", ".lora_magnitude_vector"]);
      const [dtype, shape] = [random.pick(dtypes), random.chance(0.5) ? [] : randomShape(random)];
      return void tensors.push({ name, dtype, shape, data: values(random, dtype, shape) });
    }
    case 8:
      return refill({ data: values(random, tensor.dtype, tensor.shape) });
    default:
      return refill({ name: random.chance(0.5) ? tensor.name.toUpperCase() : [...tensor.name].sort(() => random.next() - 0.5).join("") });
  }
}

/** A bent copy: unique names, data of the right length, now and then random metadata. */
export function bent(random, adapter) {
  const tensors = adapter.map((tensor) => ({ ...tensor }));
  for (let count = random.below(6); count > 0 && tensors.length > 0; count -= 1) mutate(random, tensors);
  const unique = [
    ...new Map(tensors.filter(({ dtype, shape }) => sizeOf(dtype, shape) < 1 << 22).map((tensor) => [tensor.name, tensor])).values(),
  ].filter(({ name }) => name !== "__metadata__");
  const metadata = random.chance(0.3)
    ? {
        lora_adapter_metadata: random.pick([
          '{"unet.lora_alpha": 4, "unet.use_rslora": true}',
          '{"transformer.lora_alpha": -1}',
          "{",
          "null",
          '{"unet.lora_alpha": 1e999, "unet.alpha_pattern": {"": 3}}',
          '{"unet.lora_alpha": 2, "unet.alpha_pattern": [1]}',
        ]),
      }
    : {};
  return { tensors: unique, metadata };
}
