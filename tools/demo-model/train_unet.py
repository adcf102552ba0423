"""Trains the demo UNet on the digits. In: nothing. Out: the averaged weights as a torch file in the work folder."""

from __future__ import annotations

import argparse
import copy
import time
from pathlib import Path

import torch
from data import encode, pictures
from model import NULL_CLASS, conditioning, create
from sampling import alphas_cumprod


def learning_rate(step: int, steps: int, peak: float) -> float:
    """Linear rise over 50 steps, then linear fall to 2 %."""
    return peak * min((step + 1) / 50, 0.02 + 0.98 * (1 - step / steps))


def velocity_loss(unet: torch.nn.Module, clean: torch.Tensor, context: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    """Mean squared error of the predicted velocity at random timesteps, one from each of n equal parts of the schedule: a steadier loss."""
    count = len(clean)
    when = ((torch.arange(count) + torch.rand(count)) * len(table) / count).long()
    alpha, noise = table[when][:, None, None, None], torch.randn_like(clean)
    noisy = alpha.sqrt() * clean + (1 - alpha).sqrt() * noise
    velocity = alpha.sqrt() * noise - (1 - alpha).sqrt() * clean
    return (unet(noisy, when, context).sample - velocity).square().mean()


def train(steps: int, batch: int, peak: float, seed: int = 1) -> torch.nn.Module:
    """Velocity prediction; half of the classes are replaced by the null class, because the demo draws without a class."""
    torch.manual_seed(seed)
    images, classes = pictures()
    latents, tokens, table = encode(images), conditioning(), alphas_cumprod().float()
    unet = create()
    average = copy.deepcopy(unet)
    optimiser = torch.optim.AdamW(unet.parameters(), lr=peak, weight_decay=0.01)
    begun, running = time.monotonic(), 0.0
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, steps, peak)
        index = torch.randint(len(latents), (batch,))
        label = torch.where(torch.rand(batch) < 0.5, NULL_CLASS, classes[index])
        loss = velocity_loss(unet, latents[index], tokens[label], table)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
        optimiser.step()
        decay = min(0.997, (step + 1) / (step + 10))
        with torch.no_grad():
            for kept, new in zip(average.parameters(), unet.parameters(), strict=True):
                kept.lerp_(new, 1 - decay)
        running = loss.item() if step == 0 else 0.98 * running + 0.02 * loss.item()
        if step % 50 == 49:
            print(f"step {step + 1}/{steps}  loss {running:.4f}  {time.monotonic() - begun:.0f} s", flush=True)
    return average


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder for intermediate files")
    parser.add_argument("--steps", type=int, default=900)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.work.mkdir(parents=True, exist_ok=True)
    unet = train(options.steps, options.batch, options.rate)
    torch.save(unet.state_dict(), options.work / "unet.pt")


if __name__ == "__main__":
    main()
