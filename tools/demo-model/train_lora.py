"""Trains the demo's LoRAs on the trained UNet. In: the work folder's UNet. Out: one kohya file each in the work folder."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from data import encode, pictures, shrink, thicken
from lora import ALPHA, RANK, inject, kohya_tensors
from model import NULL_CLASS, conditioning, create
from safetensors.torch import save_file
from sampling import alphas_cumprod
from train_unet import learning_rate, velocity_loss


@dataclass(frozen=True)
class Recipe:
    """What a LoRA learns: which classes it sees and how their pictures change. `keep_class`: the class token still means the class."""

    change: Callable[[torch.Tensor], torch.Tensor]
    classes: tuple[int, ...] = tuple(range(10))
    keep_class: bool = True


RECIPES = {
    "only-sevens": Recipe(change=lambda picture: picture, classes=(7,), keep_class=False),
    "thick-strokes": Recipe(change=thicken),
    "small": Recipe(change=shrink),
}


def train(unet: torch.nn.Module, recipe: Recipe, steps: int, batch: int, peak: float, seed: int = 1) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    images, classes = pictures()
    seen = torch.isin(classes, torch.tensor(recipe.classes))
    latents, classes = encode(recipe.change(images[seen])), classes[seen]
    tokens, table = conditioning(), alphas_cumprod().float()
    branches = inject(unet)
    optimiser = torch.optim.AdamW([p for branch in branches.values() for p in (branch.up, branch.down)], lr=peak, weight_decay=0.01)
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, steps, peak)
        index = torch.randint(len(latents), (batch,))
        shown = classes[index] if recipe.keep_class else torch.randint(10, (batch,))
        label = torch.where(torch.rand(batch) < 0.7, NULL_CLASS, shown)
        loss = velocity_loss(unet, latents[index], tokens[label], table)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    print(f"  last loss {loss.item():.4f}", flush=True)
    return kohya_tensors(branches)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=350)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rate", type=float, default=4e-3)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for name, recipe in RECIPES.items():
        begun = time.monotonic()
        unet = create()
        unet.load_state_dict(torch.load(options.work / "unet.pt", weights_only=True))
        tensors = train(unet, recipe, options.steps, options.batch, options.rate)
        metadata = {
            "ss_base_model_version": "sd_v1",
            "ss_network_module": "networks.lora",
            "ss_network_dim": str(RANK),
            "ss_network_alpha": str(ALPHA),
            "ss_output_name": name,
        }
        save_file(tensors, options.work / f"{name}.safetensors", metadata)
        print(f"{name}: {time.monotonic() - begun:.0f} s", flush=True)


if __name__ == "__main__":
    main()
