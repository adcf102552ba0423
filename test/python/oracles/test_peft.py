"""A small UNet with PEFT adapters: fusing them in PEFT and merging their files with us must give the same weights."""

import copy
import json
import random

import pytest
import torch
from diffusers import UNet2DConditionModel
from oracle_node import merge
from peft import LoHaConfig, LoKrConfig, LoraConfig, get_peft_model_state_dict, inject_adapter_in_model
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import load_file, save_file

TARGETS = ["to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2", "proj_in", "proj_out", "conv1", "conv2", "time_emb_proj"]
SEED = 77


def small_unet(linear: bool) -> UNet2DConditionModel:
    torch.manual_seed(SEED)
    return UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(16, 32),
        layers_per_block=1,
        cross_attention_dim=24,
        attention_head_dim=8,
        norm_num_groups=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        use_linear_projection=linear,
    )


def lora_config(rng: random.Random, **extra) -> LoraConfig:
    rank = rng.randint(2, 6)
    return LoraConfig(
        r=rank,
        lora_alpha=rng.choice([1, 4, 10]),
        target_modules=rng.sample(TARGETS, rng.randint(3, len(TARGETS))),
        use_rslora=rng.random() < 0.3,
        rank_pattern={"mid_block.attentions.0.transformer_blocks.0.attn1.to_q": 3} if rng.random() < 0.5 else {},
        alpha_pattern={"mid_block.attentions.0.transformer_blocks.0.attn2.to_k": 7} if rng.random() < 0.5 else {},
        init_lora_weights=False,
        **extra,
    )


def fuse(unet, config, strength: float, generator: torch.Generator):
    """Injects the adapter, fills it, and returns (its state dict, the UNet with it merged)."""
    model = inject_adapter_in_model(config, copy.deepcopy(unet), "default")
    for name, parameter in model.named_parameters():
        if any(part in name for part in ("lora_A", "lora_B", "hada_", "lokr_")):
            parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    state = {key: value.detach().clone().contiguous() for key, value in get_peft_model_state_dict(model, adapter_name="default").items()}
    fused = copy.deepcopy(unet)
    with torch.no_grad():
        modules = dict(fused.named_modules())
        for name, layer in model.named_modules():
            if not isinstance(layer, BaseTunerLayer):
                continue
            if strength != 1.0:
                layer.scale_layer(strength) if hasattr(layer, "scale_layer") else layer.set_scale("default", strength)
            layer.merge(safe_merge=False)
            modules[name].weight.copy_(layer.get_base_layer().weight)
    return state, fused


def save_adapter(path, state, config, prefix="unet."):
    metadata = {"format": "pt"}
    if isinstance(config, LoraConfig):
        fields = {key: value for key, value in config.to_dict().items() if isinstance(value, (int, float, str, bool, dict))}
        metadata["lora_adapter_metadata"] = json.dumps({f"unet.{key}": value for key, value in fields.items()}, sort_keys=True)
    save_file({prefix + key: value for key, value in state.items()}, path, metadata=metadata)


def compare(job, answer, expected):
    assert answer["ok"], answer
    assert answer["skipped"] == []
    for report in answer["reports"]:
        assert report["failed"] == [] and report["ignored"] == [], report
    merged = load_file(job["out"])
    for key, value in expected.items():
        scale = max(value.abs().max().item(), 1.0)
        assert (merged[key] - value).abs().max().item() <= 2e-5 * scale, key


@pytest.mark.parametrize("linear", [False, True])
def test_random_lora_stacks_equal_peft(tmp_path, linear):
    unet = small_unet(linear)
    base = tmp_path / "base.safetensors"
    save_file({key: value.contiguous() for key, value in unet.state_dict().items()}, base)
    jobs, expected = [], []
    for index in range(4):
        rng = random.Random(SEED + index)
        generator = torch.Generator().manual_seed(SEED + index)
        current, adapters = unet, []
        for position in range(rng.randint(1, 5)):
            config = lora_config(rng)
            strength = round(rng.uniform(-1.2, 1.2), 3)
            state, current = fuse(current, config, strength, generator)
            path = tmp_path / f"adapter{index}_{position}.safetensors"
            save_adapter(path, state, config, rng.choice(["unet.", "", "base_model.model."]))
            adapters.append([str(path), strength])
        jobs.append(
            {
                "base": str(base),
                "adapters": adapters,
                "family": "sd15",
                "mode": "extended",
                "out": str(tmp_path / f"out{index}.safetensors"),
            }
        )
        expected.append(current.state_dict())
    for job, answer, want in zip(jobs, merge(jobs), expected, strict=True):
        compare(job, answer, want)


@pytest.mark.parametrize("kind", ["dora", "loha", "lokr"])
def test_other_peft_kinds_at_full_strength(tmp_path, kind):
    unet = small_unet(linear=False)
    base = tmp_path / "base.safetensors"
    save_file({key: value.contiguous() for key, value in unet.state_dict().items()}, base)
    jobs, expected = [], []
    for index in range(4):
        rng = random.Random(SEED * 2 + index)
        generator = torch.Generator().manual_seed(SEED * 2 + index)
        rank = rng.randint(2, 5)
        # PEFT writes LoHa and LoKr without alpha and without the metadata that diffusers adds for LoRA: alpha = rank is what a reader must assume.
        config = {
            "dora": lambda rng=rng: lora_config(rng, use_dora=True),
            "loha": lambda rank=rank: LoHaConfig(r=rank, alpha=rank, target_modules=TARGETS, init_weights=False),
            "lokr": lambda rank=rank, rng=rng: LoKrConfig(
                r=rank, alpha=rank, target_modules=TARGETS, init_weights=False, decompose_both=rng.random() < 0.5
            ),
        }[kind]()
        state, fused = fuse(unet, config, 1.0, generator)
        path = tmp_path / f"adapter{index}.safetensors"
        save_adapter(path, state, config)
        jobs.append(
            {
                "base": str(base),
                "adapters": [[str(path), 1.0]],
                "family": "sd15",
                "mode": "extended",
                "out": str(tmp_path / f"out{index}.safetensors"),
            }
        )
        expected.append(fused.state_dict())
    for job, answer, want in zip(jobs, merge(jobs), expected, strict=True):
        compare(job, answer, want)
