"""Where a step's time goes: device time of its kernels by class, from one profiled run."""

from __future__ import annotations

from collections import defaultdict
from typing import Callable

import torch
from torch.profiler import ProfilerActivity, profile

# In this order: cuDNN's attention is a "fprop" too, and its convolutions are "gemm"s.
CLASSES = (
    ("attention", ("flash", "fmha", "sdpa", "attention")),
    ("convolution", ("fprop", "conv", "implicit", "wgrad", "dgrad", "winograd")),
    ("matmul", ("gemm", "nvjet", "cublas", "cutlass", "s16816", "splitk", "gemv")),
    ("layout copies", ("nchwtonhwc", "nhwctonchw", "catarray", "copy", "transpose", "memcpy", "memset")),
    ("norm", ("_sums", "_factors", "_scaled", "_norm", "norm", "welford")),
    ("elementwise", ("_added", "_geglu", "elementwise", "vectorized", "triton", "upsample", "index")),
)
MOST = 28


def class_of(kernel: str) -> str:
    name = kernel.lower()
    return next((kind for kind, words in CLASSES if any(word in name for word in words)), "other")


def by_class(step: Callable[[], object], device: torch.device, runs: int = 3) -> dict:
    """Milliseconds of a run by class, and the kernels that took most (microseconds and launches of a run)."""
    kind = ProfilerActivity.CUDA if device.type == "cuda" else ProfilerActivity.CPU
    step()
    with profile(activities=[kind]) as profiler:
        for _ in range(runs):
            step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    kernels: dict[str, list[float]] = defaultdict(lambda: [0.0, 0])
    for event in profiler.events() or ():
        if device.type == "cuda" and event.device_type != torch.autograd.DeviceType.CUDA:
            continue
        kernels[event.name][0] += (event.device_time if device.type == "cuda" else event.self_cpu_time_total) / runs
        kernels[event.name][1] += 1
    classes: dict[str, float] = defaultdict(float)
    for name, (micros, _) in kernels.items():
        classes[class_of(name)] += micros / 1000
    ranked = sorted(kernels.items(), key=lambda item: -item[1][0])
    return {
        "classes_ms": {kind: round(ms, 3) for kind, ms in sorted(classes.items(), key=lambda item: -item[1])},
        "kernels_ms": round(sum(classes.values()), 3), "launches": round(sum(count for _, count in kernels.values()) / runs),
        "kernels": [[name[:110], round(micros, 1), round(count / runs, 1)] for name, (micros, count) in ranked[:MOST]],
    }  # fmt: skip
