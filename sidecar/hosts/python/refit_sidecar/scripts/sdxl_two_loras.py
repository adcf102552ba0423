"""SDXL with two LoRAs: a grid of strengths without a second compilation."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Sequence

from refit_sidecar import RefitModule

from . import start, tiny


def main(given: Sequence[str] | None = None) -> list:
    args = start.arguments(__doc__, given, adapters=2)
    pipe = start.pipeline(args, tiny.sdxl)
    loras = [tiny.lora(pipe.unet, seed) for seed in (1, 2)] if args.tiny else args.loras
    pipe.unet = RefitModule(pipe.unet)
    for name, lora in zip("ab", loras):
        if args.tiny:
            pipe.unet.load_lora_adapter(lora, prefix=None, adapter_name=name)
        else:
            pipe.load_lora_weights(lora, adapter_name=name)
    pictures = []
    for strengths in ((1.0, 0.0), (0.5, 0.5), (0.0, 1.0)):
        pipe.set_adapters(["a", "b"], list(strengths))
        began = time.perf_counter()
        pictures.append(pipe(**start.call(pipe, args)).images[0])
        assert pipe.unet.last_refit is not None
        print(
            f"{strengths}: {time.perf_counter() - began:.2f} s, of it {pipe.unet.last_refit.ms:.1f} ms refit, served by the {pipe.unet.served_by}"
        )
        if not args.tiny:
            pictures[-1].save(Path(args.out) / f"sdxl-{strengths[0]}-{strengths[1]}.png")
    return pictures


if __name__ == "__main__":
    main()
