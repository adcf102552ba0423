"""f32 bit patterns on stdin; on stdout their f16 and bf16 codes as torch rounds them, then all fp8 codes (e4m3fn, e5m2) as f32."""

import sys

import numpy
import torch

values = torch.from_numpy(numpy.frombuffer(sys.stdin.buffer.read(), dtype=numpy.float32).copy())
out = sys.stdout.buffer
for dtype in (torch.float16, torch.bfloat16):
    out.write(values.to(dtype).view(torch.int16).numpy().tobytes())
codes = torch.arange(256, dtype=torch.int32).to(torch.uint8)
for dtype in (torch.float8_e4m3fn, torch.float8_e5m2):
    out.write(codes.view(dtype).to(torch.float32).numpy().tobytes())
