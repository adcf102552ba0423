// Starting points for every fuzz run: headers that are legal or nearly so. A run needs no files beside this one.

/** @param {string} dtype @param {string} shape @param {number} begin @param {number} end */
const tensor = (dtype, shape, begin, end) => `{"dtype":"${dtype}","shape":${shape},"data_offsets":[${begin},${end}]}`;

/** @returns {{ header: Buffer, dataBytes: number }[]} */
export function headerSeeds() {
  /** @type {[string, number][]} */
  const seeds = [
    ["{}", 0],
    ["{}      ", 0],
    [`{"a":${tensor("F32", "[1]", 0, 4)}}`, 4],
    [`{"__metadata__":{"format":"pt","ss_network_dim":"16"},"a":${tensor("F16", "[2,3]", 0, 12)}}`, 12],
    [`{"b":${tensor("F32", "[1]", 4, 8)},"a":${tensor("BF16", "[2]", 0, 4)}}`, 8],
    [`{"z":${tensor("F32", "[0,7]", 0, 0)},"a":${tensor("F64", "[]", 0, 8)}}`, 8],
    [`{"__proto__":${tensor("U8", "[1]", 0, 1)},"é😀":${tensor("I8", "[1]", 1, 2)}}`, 2],
    [`{"\\u0061\\ud83d\\ude00":{"extra":[1,-2.5e3,null,true,{"x":"\\n"}],"dtype":"F8_E4M3","shape":[1],"data_offsets":[0,1]}}`, 1],
    [`{"a":${tensor("F32", "[1]", 0, 4)},"a":${tensor("F32", "[1]", 4, 8)}}`, 8],
    [`{"a":${tensor("F32", "[4294967296,4294967296]", 0, 0)}}`, 0],
    [
      `{"lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight":${tensor("F16", "[4,320,1,1]", 0, 2560)},"lora_unet_down_blocks_0_attentions_0_proj_in.alpha":${tensor("F16", "[]", 2560, 2562)}}`,
      2562,
    ],
  ];
  return seeds.map(([header, dataBytes]) => ({ header: Buffer.from(header), dataBytes }));
}

/** As the C++ targets take them: 4 bytes of data length, then the header. */
export function seedFiles() {
  return headerSeeds().map(({ header, dataBytes }) => {
    const prefix = Buffer.alloc(4);
    prefix.writeUInt32LE(dataBytes);
    return Buffer.concat([prefix, header]);
  });
}
