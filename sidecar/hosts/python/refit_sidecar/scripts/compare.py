"""A and B of whole variants of a model: one engine, the weights of one file, then of the other, then of the first again."""

from __future__ import annotations

from typing import Sequence

import torch

from refit_sidecar import RefitModule, refit_module_weights

from . import start, tiny


def main(given: Sequence[str] | None = None) -> list[torch.Tensor]:
    args = start.arguments(__doc__, given, adapters=1)
    pipe = start.pipeline(args, tiny.sdxl)
    first = {name: value.detach().clone() for name, value in pipe.unet.state_dict().items()}
    if args.tiny:
        second = {name: value * 1.05 if value.is_floating_point() else value for name, value in first.items()}
    else:
        from diffusers import UNet2DConditionModel

        second = UNet2DConditionModel.from_pretrained(args.loras[0], subfolder="unet", torch_dtype=pipe.unet.dtype).state_dict()
    pipe.unet = RefitModule(pipe.unet)
    answers = []
    for name, weights in (("A", first), ("B", second), ("A", first)):
        refit_module_weights(pipe.unet, weights)
        answers.append(torch.as_tensor(pipe(**{**start.call(pipe, args), "output_type": "latent"}).images).clone())
        assert pipe.unet.last_refit is not None
        print(f"{name}: refit of {len(pipe.unet.last_refit.written)} parameters in {pipe.unet.last_refit.ms:.1f} ms")
    print("A is back, bit for bit" if torch.equal(answers[0], answers[2]) else "A came back different")
    return answers


if __name__ == "__main__":
    main()
