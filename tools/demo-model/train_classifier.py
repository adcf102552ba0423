"""Trains the demo's classifier: 256 pixels -> 64 -> 10, two matrices and a ReLU. In: nothing. Out: classifier.safetensors in the work folder."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from data import pictures, thicken
from safetensors.torch import save_file
from torch import nn

HIDDEN = 64


def augment(images: torch.Tensor) -> torch.Tensor:
    """Shifts by a pixel, thick strokes, grey levels and noise: what the denoiser may draw and the data set does not hold."""
    dx, dy = (int(n) for n in torch.randint(-1, 2, (2,)))
    moved = torch.roll(images, (dy, dx), (-2, -1))
    moved = torch.where(torch.rand(len(images), 1, 1, 1) < 0.25, thicken(moved), moved)
    ink = (moved + 1) / 2 * torch.empty(len(images), 1, 1, 1).uniform_(0.6, 1.2)
    return (ink * 2 - 1 + 0.15 * torch.randn_like(images)).clamp(-1, 1)


def train(steps: int, seed: int = 1) -> tuple[nn.Sequential, float]:
    """Returns the network and its accuracy on the fifth of the pictures that it did not see."""
    torch.manual_seed(seed)
    images, classes = pictures()
    held = torch.arange(len(images)) % 5 == 0
    seen, labels = images[~held], classes[~held]
    network = nn.Sequential(nn.Flatten(), nn.Linear(256, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 10))
    optimiser = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=0.02)
    for _ in range(steps):
        index = torch.randint(len(seen), (128,))
        loss = F.cross_entropy(network(augment(seen[index])), labels[index], label_smoothing=0.05)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        right = (network(images[held]).argmax(1) == classes[held]).float().mean()
    return network, float(right)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=4000)
    options = parser.parse_args()
    torch.set_num_threads(1)
    network, right = train(options.steps)
    state = {"fc1.weight": network[1].weight, "fc1.bias": network[1].bias, "fc2.weight": network[3].weight, "fc2.bias": network[3].bias}
    save_file(
        {name: tensor.detach().contiguous() for name, tensor in state.items()},
        options.work / "classifier.safetensors",
        {"held_out_accuracy": f"{right:.4f}"},
    )
    print(f"classifier: {100 * right:.1f} % of the held-out digits")


if __name__ == "__main__":
    main()
