"""Names of element types on three sides: safetensors files, the wire and torch."""

from __future__ import annotations

import torch

TORCH_OF_FILE = {
    "F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip
TORCH_OF_WIRE = {
    "f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16, "u8": torch.uint8, "i64": torch.int64,
}  # fmt: skip
WIRE_OF_TORCH = {value: key for key, value in TORCH_OF_WIRE.items()}
# Dtypes that hold weights or factors.
FLOAT_DTYPES = frozenset({"F16", "BF16", "F32", "F64", "F8_E4M3", "F8_E5M2"})
