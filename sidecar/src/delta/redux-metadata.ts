// How a `.trt_lora` of TensorRT-Redux is told from an adapter.

/** The four fields that its exporter writes (public source of sloptimize/TensorRT-Redux, `nodes/export_lora.py`). */
export function isRedux(metadata: Readonly<Record<string, string>>): boolean {
  return ["base_engine", "lora_file", "lora_strength", "num_deltas"].every((field) => metadata[field] !== undefined);
}
