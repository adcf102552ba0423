"""One denoiser call by PyTorch, diffusers and peft on the same files that an engine host reads.

    python reference.py --checkpoint F --config config.json --stacks '[[], [["lora.safetensors", 0.8]]]' --out F
                        [--batch 2 --height 8 --width 8 --tokens 77]

Loads the checkpoint through diffusers' own converter, the adapters through diffusers' LoRA loader (peft), and writes inputs and one output per stack
(`out.0`, `out.1`, …), f32.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from diffusers.loaders import StableDiffusionLoraLoaderMixin, StableDiffusionXLLoraLoaderMixin
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint
from safetensors.torch import load_file, save_file


def load_unet(checkpoint: Path, config: dict) -> UNet2DConditionModel:
    state = convert_ldm_unet_checkpoint(load_file(checkpoint), config=config)
    with torch.device("meta"):
        unet = UNet2DConditionModel(**config)
    unet.load_state_dict({name: value.float() for name, value in state.items()}, assign=True, strict=True)
    return unet.eval()


def apply_stack(unet: UNet2DConditionModel, stack: list[tuple[str, float]], loader: type) -> None:
    unet.unload_lora() if hasattr(unet, "peft_config") else None
    names = []
    for index, (path, _) in enumerate(stack):
        state, alphas = loader.lora_state_dict(path, unet_config=unet.config)[:2]
        loader.load_lora_into_unet(state, network_alphas=alphas, unet=unet, adapter_name=f"a{index}")
        names.append(f"a{index}")
    if names:
        unet.set_adapters(names, [strength for _, strength in stack])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--stacks", required=True)
    parser.add_argument("--out", type=Path, required=True)
    for name, default in (("batch", 2), ("height", 8), ("width", 8), ("tokens", 77)):
        parser.add_argument(f"--{name}", type=int, default=default)
    arguments = parser.parse_args()
    config = json.loads(arguments.config.read_text())
    config = config.get("config", config)
    # diffusers' converter and LoRA scaling know one number for all levels only.
    config["layers_per_block"] = config["layers_per_block"][0]
    torch.set_num_threads(2)
    unet = load_unet(arguments.checkpoint, config)
    generator = torch.Generator().manual_seed(11)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    batch = arguments.batch
    inputs = {
        "sample": random(batch, config["in_channels"], arguments.height, arguments.width),
        "timestep": torch.linspace(900.0, 40.0, batch),
        "encoder_hidden_states": random(batch, arguments.tokens, config["cross_attention_dim"]),
    }
    options = {}
    loader = StableDiffusionLoraLoaderMixin
    if config.get("addition_embed_type") == "text_time":
        loader = StableDiffusionXLLoraLoaderMixin
        pooled = random(batch, config["projection_class_embeddings_input_dim"] - 6 * config["addition_time_embed_dim"])
        sizes = torch.tensor([[1024.0, 768.0, 0.0, 64.0, 1024.0, 1024.0]]).repeat(batch, 1)
        options["added_cond_kwargs"] = {"text_embeds": pooled, "time_ids": sizes}
        # What a UI sends instead: pooled text followed by the embedded sizes, as diffusers makes it inside.
        inputs["y"] = torch.cat([pooled, unet.add_time_proj(sizes.flatten()).reshape(batch, -1)], dim=-1)
    tensors = dict(inputs)
    with torch.inference_mode():
        for index, stack in enumerate(json.loads(arguments.stacks)):
            apply_stack(unet, stack, loader)
            tensors[f"out.{index}"] = unet(
                inputs["sample"], inputs["timestep"], inputs["encoder_hidden_states"], return_dict=False, **options
            )[0]
    save_file({name: value.float().contiguous() for name, value in tensors.items()}, arguments.out)
    print(json.dumps({"ok": True}))


if __name__ == "__main__":
    main()
