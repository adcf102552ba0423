"""Writes tiny random SD 1.5 checkpoints and adapters for the tests on a real Forge or A1111; run with Forge's Python.

    FORGE_DIR=... python test/python/plugin/ui/webui/webui_checkpoints.py OUT_DIR

Only the UNet is tiny: the UIs take text encoder and VAE in their full sizes only. Writes `Stable-diffusion/*.safetensors`, beside each the
configuration that A1111 needs for a UNet of another size, and `Lora/*.safetensors` under OUT_DIR, every file through a temporary name.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

FORGE = Path(os.environ["FORGE_DIR"])
sys.argv, OUT = [sys.argv[0], "--always-cpu"], Path(sys.argv[1])
PARTS = Path(__file__).resolve().parents[1] / "comfyui"
sys.path[1:1] = [str(PARTS), str(FORGE), str(FORGE / "repositories" / "huggingface_guess"), str(FORGE / "packages_3rdparty")]

import torch  # noqa: E402
from backend.nn.unet import IntegratedUNet2DConditionModel  # noqa: E402
from backend.nn.vae import IntegratedAutoencoderKL  # noqa: E402
from tiny_parts import PREFIX, SD15, adapter, fill, layers, save  # noqa: E402
from transformers import CLIPTextConfig, CLIPTextModel  # noqa: E402

CONFIGS = FORGE / "backend" / "huggingface" / "runwayml" / "stable-diffusion-v1-5"
# Forge's UNet class has these settings built in.
FIXED = ("image_size", "legacy")


def unet(seed: int, **changes: int) -> dict[str, torch.Tensor]:
    settings = {key: value for key, value in SD15.items() if key not in FIXED}
    return _halved(PREFIX, fill(IntegratedUNet2DConditionModel(**{**settings, **changes}), seed))


def around() -> dict[str, torch.Tensor]:
    """What the checkpoints share."""
    vae = IntegratedAutoencoderKL.from_config(IntegratedAutoencoderKL.load_config(str(CONFIGS / "vae")))
    clip = CLIPTextModel(CLIPTextConfig.from_pretrained(str(CONFIGS / "text_encoder")))
    return {**_halved("first_stage_model.", fill(vae, 9)), **_halved("cond_stage_model.transformer.", fill(clip, 10))}


def _halved(prefix: str, module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {prefix + key: value.half().contiguous() for key, value in module.state_dict().items() if value.is_floating_point()}


def text_adapter(seed: int) -> dict[str, torch.Tensor]:
    """A LoRA on the text encoder's first feed-forward layers."""
    generator = torch.Generator().manual_seed(seed)
    out: dict[str, torch.Tensor] = {}
    for layer in range(2):
        stem = f"lora_te_text_model_encoder_layers_{layer}_mlp_fc1"
        out[f"{stem}.lora_up.weight"] = (torch.randn(3072, 4, generator=generator) * 0.05).half()
        out[f"{stem}.lora_down.weight"] = (torch.randn(4, 768, generator=generator) * 0.05).half()
        out[f"{stem}.alpha"] = torch.tensor(2.0)
    return out


def other_kinds(targets: dict[str, torch.Tensor], norms: dict[str, torch.Tensor]) -> dict[str, dict[str, torch.Tensor]]:
    """Adapters of kinds that UIs read in different ways, by file name: attention's square layers, one convolution, or the norms."""
    generator = torch.Generator().manual_seed(21)

    def noise(*shape: int, scale: float = 0.05) -> torch.Tensor:
        return torch.randn(*shape, generator=generator) * scale

    def each(of: dict[str, torch.Tensor], make: Callable[[torch.Tensor], dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        return {f"{stem(name)}.{part}": tensor.contiguous() for name, value in of.items() for part, tensor in make(value).items()}

    def stem(name: str) -> str:
        return "lora_unet_" + name.removesuffix(".weight").replace(".", "_")

    def low_rank(value: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"lora_up.weight": noise(value.shape[0], 4), "lora_down.weight": noise(4, value.shape[1]), "alpha": torch.tensor(2.0)}

    def blocks(*shape: int) -> torch.Tensor:
        return noise(*shape, scale=0.1)

    square = {name: value for name, value in targets.items() if ".attn1.to_v" in name or ".attn1.to_out" in name}
    convolution = {name: value for name, value in targets.items() if value.ndim == 4 and value.shape[-1] == 3}
    first = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1"
    return {
        "loha": adapter("loha", targets, 22),
        "full": adapter("diff", targets, 23),
        "cp": each(
            convolution,
            lambda v: {
                "lora_up.weight": noise(v.shape[0], 4, 1, 1),
                "lora_mid.weight": noise(4, 4, 3, 3, scale=0.5),
                "lora_down.weight": noise(4, v.shape[1], 1, 1),
                "alpha": torch.tensor(4.0),
            },
        ),
        "dora-inputs": each(square, lambda v: {**low_rank(v), "dora_scale": 0.5 + torch.rand(1, v.shape[1], generator=generator)}),
        "dora-outputs": each(square, lambda v: {**low_rank(v), "dora_scale": 0.5 + torch.rand(v.shape[0], 1, generator=generator)}),
        "glora": each(
            square,
            lambda v: {
                "a1.weight": noise(4, v.shape[1]),
                "a2.weight": noise(v.shape[1], 4),
                "b1.weight": noise(4, v.shape[1]),
                "b2.weight": noise(v.shape[0], 4),
                "alpha": torch.tensor(2.0),
            },
        ),
        "oft": each(square, lambda v: {"oft_blocks": blocks(8, v.shape[0] // 8, v.shape[0] // 8)}),
        "oft-bounded": each(square, lambda v: {"oft_blocks": blocks(8, v.shape[0] // 8, v.shape[0] // 8), "alpha": torch.tensor(0.01)}),
        "oft-old": each(square, lambda v: {"oft_diag": torch.eye(8) + blocks(v.shape[0] // 8, 8, 8)}),
        "boft": each(square, lambda v: {"oft_blocks": blocks(2, v.shape[0] // 8, 8, 8), "alpha": torch.tensor(0.0)}),
        "ia3": each(square, lambda v: {"weight": noise(v.shape[0], scale=0.3), "on_input": torch.tensor(False)}),
        "norms": each(norms, lambda v: {"w_norm": noise(*v.shape, scale=0.2), "b_norm": noise(*v.shape, scale=0.2)}),
        "peft": {
            f"{first}.{layer}.lora_{side}.weight": noise(*shape)
            for layer in ("to_v", "to_out.0")
            for side, shape in {"A": (4, 320), "B": (320, 4)}.items()
        },
    }


def configuration(inpainting: bool = False) -> str:
    """For A1111: `ldm` classes by name. JSON is YAML."""
    sizes = {key: value for key, value in SD15.items() if not key.startswith("transformer_depth")}
    sizes |= {"attention_resolutions": [1], "transformer_depth": 1, "num_res_blocks": 1, "use_checkpoint": False}
    coder = {"double_z": True, "z_channels": 4, "resolution": 256, "in_channels": 3, "out_ch": 3, "ch": 128, "ch_mult": [1, 2, 4, 4]}
    coder |= {"num_res_blocks": 2, "attn_resolutions": [], "dropout": 0.0}
    parts = {
        "unet_config": {"target": "ldm.modules.diffusionmodules.openaimodel.UNetModel", "params": sizes},
        "first_stage_config": {
            "target": "ldm.models.autoencoder.AutoencoderKL",
            "params": {"embed_dim": 4, "ddconfig": coder, "lossconfig": {"target": "torch.nn.Identity"}},
        },
        "cond_stage_config": {"target": "ldm.modules.encoders.modules.FrozenCLIPEmbedder"},
    }
    target = "LatentDiffusion"
    if inpainting:
        target = "LatentInpaintDiffusion"
        parts["unet_config"]["params"]["in_channels"] = 9
    schedule = {"linear_start": 0.00085, "linear_end": 0.012, "num_timesteps_cond": 1, "timesteps": 1000}
    keys = {"first_stage_key": "jpg", "cond_stage_key": "txt", "image_size": 64, "channels": 4, "cond_stage_trainable": False}
    keys |= {"conditioning_key": "hybrid" if inpainting else "crossattn", "scale_factor": 0.18215, "use_ema": False}
    keys |= {"finetune_keys": None} if inpainting else {}
    return json.dumps({"model": {"target": f"ldm.models.diffusion.ddpm.{target}", "params": {**schedule, **keys, **parts}}}, indent=1)


def main() -> None:
    shared = around()
    tensors = unet(1)
    for name, own in {"tiny": tensors, "other": unet(2), "with-mask": unet(3, in_channels=9)}.items():
        save(OUT / "Stable-diffusion" / f"{name}.safetensors", {**own, **shared})
        (OUT / "Stable-diffusion" / f"{name}.yaml").write_text(configuration(name == "with-mask"))
    targets = layers(tensors)
    attention = {key: value for key, value in targets.items() if ".attn" in key}
    save(OUT / "Lora" / "style.safetensors", adapter("lora", targets, 11))
    save(OUT / "Lora" / "kron.safetensors", adapter("lokr", targets, 14))
    norms = {key.removeprefix(PREFIX): value for key, value in tensors.items() if ".norm1.weight" in key or ".norm2.weight" in key}
    for name, made in other_kinds(targets, norms).items():
        save(OUT / "Lora" / "kinds" / f"{name}.safetensors", made)
    save(OUT / "Lora" / "ein Name, größer" / "Tusche 墨 (v2).safetensors", adapter("lora", attention, 18))
    save(OUT / "Lora" / "both.safetensors", {**adapter("lora", attention, 16, rank=8), **text_adapter(17)})


if __name__ == "__main__":
    main()
