// Small safetensors files as bytes, written by hand so that broken ones can be made too.

/** Bytes of a file with one F32 tensor of `floats` values, all `value`. */
export function tensorFile(floats: number, value = 1, name = "lora_unet_x.lora_up.weight"): Buffer {
  const header = Buffer.from(
    JSON.stringify({ __metadata__: { format: "pt" }, [name]: { dtype: "F32", shape: [floats], data_offsets: [0, floats * 4] } }),
  );
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(header.length));
  return Buffer.concat([length, header, Buffer.from(new Float32Array(floats).fill(value).buffer)]);
}
