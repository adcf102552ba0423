"""The training pictures: scikit-learn's digits as 16x16 grey pictures, and their 4x8x8 "latents".

A latent is the picture with each 2x2 square of pixels folded into 4 channels, shifted and scaled to mean 0, deviation 1,
so the demo's decoder is one line: unfold, scale, clip.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits

PIXELS = 16
MEAN = -0.65
DEVIATION = 0.62
# The decoder darkens the ground a little, where the denoiser leaves faint dots.
CONTRAST = 1.25


def pictures() -> tuple[torch.Tensor, torch.Tensor]:
    """Returns pictures [1797, 1, 16, 16] in [-1, 1] (ink = 1) and their classes [1797]."""
    digits = load_digits()
    ink = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
    large = F.interpolate(ink, size=(12, 12), mode="bicubic", align_corners=False).clamp(0, 1)
    return F.pad(large, (2, 2, 2, 2)) * 2 - 1, torch.tensor(digits.target)


def thicken(picture: torch.Tensor) -> torch.Tensor:
    """Makes strokes one pixel wider and as dark as ink gets."""
    wide = F.max_pool2d(F.pad(picture, (1, 0, 1, 0), value=-1), 2, stride=1)
    return (wide * 1.5 + 0.5).clamp(-1, 1)


def shrink(picture: torch.Tensor) -> torch.Tensor:
    """The same picture at half its size, in the middle."""
    return F.pad(F.interpolate(picture, scale_factor=0.5, mode="area"), (4, 4, 4, 4), value=-1)


def encode(picture: torch.Tensor) -> torch.Tensor:
    """[n, 1, 16, 16] in [-1, 1] -> latents [n, 4, 8, 8]."""
    return (F.pixel_unshuffle(picture, 2) - MEAN) / DEVIATION


def decode(latent: torch.Tensor) -> torch.Tensor:
    """Latents [n, 4, 8, 8] -> pictures [n, 1, 16, 16] in [-1, 1]."""
    return ((F.pixel_shuffle(latent, 2) * DEVIATION + MEAN) * CONTRAST).clamp(-1, 1)
