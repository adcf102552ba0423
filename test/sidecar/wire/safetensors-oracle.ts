// A reading of the safetensors format that shares no code with the product.
export function parseSafetensorsHeader(file: Buffer) {
  const length = Number(file.readBigUInt64LE(0));
  const tensors = JSON.parse(file.toString("utf8", 8, 8 + length)) as Record<
    string,
    { dtype: string; shape: number[]; data_offsets: [number, number] }
  >;
  const start = 8 + length;
  let end = 0;
  for (const { data_offsets } of Object.values(tensors)) {
    if (data_offsets[0] !== end) throw new Error("a hole or an overlap");
    end = data_offsets[1];
  }
  if (start + end !== file.byteLength || length % 8 !== 0) throw new Error("the file is not its header and its data");
  return {
    tensors,
    bytesOf: (name: string): Buffer => file.subarray(start + tensors[name]!.data_offsets[0], start + tensors[name]!.data_offsets[1]),
  };
}
