"""The demo's sampler, in plain arithmetic so that any language can repeat it: DDIM without noise, clipped, fixed start noise.

docs/develop/demo-model.md states the same in formulas; `sidecar/demo/demo.json` carries every number used here.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from data import DEVIATION, MEAN

TRAIN_STEPS = 1000
STEPS = 16
SHAPE = (4, 8, 8)
CLIP = ((-1 - MEAN) / DEVIATION, (1 - MEAN) / DEVIATION)


def alphas_cumprod() -> torch.Tensor:
    """SD's scaled linear schedule, f64 [1000]."""
    root = torch.linspace(0.00085**0.5, 0.012**0.5, TRAIN_STEPS, dtype=torch.float64)
    return torch.cumprod(1 - root**2, 0)


def schedule() -> list[dict[str, float]]:
    """One row a step: `timestep`, `alpha` (cumulative, now) and `alphaNext` (after the step; 1 at the end)."""
    table = alphas_cumprod()
    times = [TRAIN_STEPS - 1 - round(i * TRAIN_STEPS / STEPS) for i in range(STEPS)]
    alphas = [float(table[t]) for t in times] + [1.0]
    return [{"timestep": t, "alpha": alphas[i], "alphaNext": alphas[i + 1]} for i, t in enumerate(times)]


def noise(seed: int, count: int = math.prod(SHAPE)) -> list[float]:
    """`count` (even) normal numbers of one seed: mulberry32 -> pairs (u, v) -> Box-Muller, cosine first, then sine."""
    state, values = seed & 0xFFFFFFFF, []

    def uniform() -> float:
        nonlocal state
        state = (state + 0x6D2B79F5) & 0xFFFFFFFF
        t = ((state ^ (state >> 15)) * (state | 1)) & 0xFFFFFFFF
        t ^= (t + (((t ^ (t >> 7)) * (t | 61)) & 0xFFFFFFFF)) & 0xFFFFFFFF
        return ((t ^ (t >> 14)) & 0xFFFFFFFF) / 4294967296

    while len(values) < count:
        u, v = 1 - uniform(), uniform()
        radius = math.sqrt(-2 * math.log(u))
        values += [radius * math.cos(2 * math.pi * v), radius * math.sin(2 * math.pi * v)]
    return values


def initial(seeds: list[int]) -> torch.Tensor:
    """Start latents [n, 4, 8, 8], one seed a picture, rounded to f32."""
    return torch.tensor([noise(seed) for seed in seeds], dtype=torch.float32).reshape(len(seeds), *SHAPE)


def sample(denoise: Callable[[torch.Tensor, float], torch.Tensor], start: torch.Tensor) -> torch.Tensor:
    """Runs the schedule; `denoise(latents, timestep)` returns the predicted velocity."""
    latents = start
    for row in schedule():
        now, after = row["alpha"], row["alphaNext"]
        velocity = denoise(latents, row["timestep"])
        clean = (math.sqrt(now) * latents - math.sqrt(1 - now) * velocity).clamp(*CLIP)
        direction = (latents - math.sqrt(now) * clean) / math.sqrt(1 - now)
        latents = math.sqrt(after) * clean + math.sqrt(1 - after) * direction
    return latents
