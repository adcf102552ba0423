"""What a RefitModule costs beside the engine: the look for changes at every call, and a switch of LoRAs. SDXL's own tree of modules (1,678 parameters, 722
layers with adapters) at a small width: neither depends on how large a tensor is. Runs anywhere: `python -m bench.gpu module_looks --device cpu`.

`cpu_ms`: the thread's own time, the median of all repeats, for machines that are busy otherwise.
"""

from __future__ import annotations

import statistics
import time
import warnings
from typing import Any, Callable, Iterator

import torch
from diffusers import UNet2DConditionModel
from peft import LoraConfig
from refit_sidecar import RefitModule

from ..context import Context

TARGETS = ["to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2"]
FIVE = ["a", "b", "c", "d", "e"]


def _narrow() -> torch.nn.Module:
    return UNet2DConditionModel(
        sample_size=8, block_out_channels=(32, 64, 64), layers_per_block=2, norm_num_groups=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=16, attention_head_dim=(4, 8, 8), transformer_layers_per_block=(1, 2, 10), use_linear_projection=True, addition_embed_type="text_time",
        addition_time_embed_dim=8, projection_class_embeddings_input_dim=16 + 6 * 8,
    ).eval().requires_grad_(False)  # fmt: skip


def _clocks(work: Callable[[], object], repeats: int) -> dict[str, float]:
    work()
    wall, own = [], []
    for _ in range(repeats):
        began, mine = time.perf_counter(), time.thread_time()
        work()
        wall.append((time.perf_counter() - began) * 1000)
        own.append((time.thread_time() - mine) * 1000)
    return {
        "median_ms": round(statistics.median(wall), 3),
        "min_ms": round(min(wall), 3),
        "cpu_ms": round(statistics.median(own), 3),
        "n": repeats,
    }


def run(context: Context, options: dict) -> Iterator[dict]:
    warnings.simplefilter("ignore")
    repeats = options.get("repeats", 100)
    device = context.device
    module = RefitModule(_narrow().to(device), tier="eager")
    given: dict[str, Any] = {
        "encoder_hidden_states": torch.randn(2, 5, 16, device=device), "return_dict": False,
        "added_cond_kwargs": {"text_embeds": torch.randn(2, 16, device=device), "time_ids": torch.ones(2, 6, device=device)},
    }  # fmt: skip

    def call() -> None:
        module(torch.randn(2, 4, 8, 8, device=device), torch.tensor(10), **given)

    def look(which: str) -> dict:
        call()
        snapshot = module._refit._snapshot
        return {"what": f"look, {which}", "tensors": snapshot.watched, "layers": len(snapshot.tuners), **_clocks(snapshot.look, repeats)}

    yield look("no adapters")
    for seed, name in enumerate(FIVE):
        torch.manual_seed(seed)
        module.add_adapter(LoraConfig(r=4, lora_alpha=4, target_modules=TARGETS, init_lora_weights=False), name)
    module.requires_grad_(False)
    module.set_adapters(["a"], [1.0])
    yield look("five adapters loaded, one on")
    theirs = module._refit.original_class.set_adapters
    some = max(5, repeats // 10)
    turns = iter([["a"], ["b"]] * 10_000)
    yield {"what": "set_adapters of diffusers, five loaded", **_clocks(lambda: theirs(module, next(turns), [1.0]), some)}
    call()
    yield {"what": "set_adapters of a RefitModule, five loaded", **_clocks(lambda: module.set_adapters(next(turns), [1.0]), repeats)}

    def switch() -> None:
        module.set_adapters(next(turns), [1.0])
        module.refit()

    yield {"what": "set_adapters and refit", **_clocks(switch, some), "refit_ms": round(module.last_refit.ms, 3)}
    module.set_adapters(FIVE, [0.2] * 5)
    yield look("five adapters on")
