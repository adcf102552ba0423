"""Pictures inside a training loop: the optimiser changes a LoRA, the engine follows at the next evaluation, training goes through the original."""

from __future__ import annotations

from typing import Sequence

import torch
from peft import LoraConfig

from refit_sidecar import RefitModule

from . import start, tiny


def main(given: Sequence[str] | None = None) -> list[torch.Tensor]:
    args = start.arguments(__doc__, given)
    pipe = start.pipeline(args, tiny.sdxl)
    pipe.unet.requires_grad_(False)
    pipe.unet.add_adapter(LoraConfig(r=4, target_modules=["to_q", "to_v"]), "trained")
    pipe.unet = unet = RefitModule(pipe.unet)
    optimiser = torch.optim.AdamW([each for each in unet.parameters() if each.requires_grad], lr=1e-2)
    words, pooled = (each.to(unet.device, unet.dtype) for each in _words(pipe, args))
    more = {"text_embeds": pooled, "time_ids": torch.ones(1, 6, device=unet.device, dtype=unet.dtype)}
    answers = []
    for epoch in range(3):
        noise = torch.randn(1, 4, 8, 8, device=unet.device, dtype=unet.dtype)
        # With gradients on, the original module runs.
        loss = (
            (unet(noise * 0.5, torch.tensor(500.0, device=unet.device), encoder_hidden_states=words, added_cond_kwargs=more).sample - noise)
            .square()
            .mean()
        )
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        trained_by = unet.served_by
        answers.append(torch.as_tensor(pipe(**{**start.call(pipe, args), "output_type": "latent"}).images).clone())
        assert unet.last_refit is not None
        print(
            f"epoch {epoch}: loss {loss.item():.4f}; trained by the {trained_by.split(':')[0]}, picture by the {unet.served_by}, {len(unet.last_refit.written)} weights refitted"
        )
    return answers


def _words(pipe, args) -> tuple[torch.Tensor, torch.Tensor]:
    if args.tiny:
        given = tiny.prompt(pipe)
        return given["prompt_embeds"], given["pooled_prompt_embeds"]
    words, _, pooled, _ = pipe.encode_prompt(args.prompt)
    return words, pooled


if __name__ == "__main__":
    main()
