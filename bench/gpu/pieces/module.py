"""RefitModule under diffusers' own SDXL UNet and Flux, beside what diffusers users have: PEFT's layers, fuse_lora, hotswap with regional compilation.

Options: `models` (some of sdxl, flux), `tiers` (some of graphs, compiled), `peers` (true). Every time is what the caller of the module waits for, the device idle before and after.
A switch of LoRAs is `set_adapters` and the refit: five adapters are loaded under RefitModule, two under fuse_lora. The last row of a model is its verdict.
"""

from __future__ import annotations

import gc
import time
from typing import Any, Callable, Iterator

import torch
from diffusers import FluxTransformer2DModel, UNet2DConditionModel
from peft import LoraConfig
from refit_graphs.families import plan
from refit_sidecar import RefitModule

from ..context import Context, relative_error
from ..flux import REAL, TINY
from ..flux import shapes as flux_shapes

RANK = 16
Call = Callable[[torch.nn.Module], torch.Tensor]


def _filled(make: Callable[[], torch.nn.Module], device: torch.device, dtype: torch.dtype) -> torch.nn.Module:
    """Random weights that keep the variance of what they multiply, as trained ones roughly do."""
    with torch.device("meta"):
        module = make()
    module = torch.nn.Module.to(module.to_empty(device=device), dtype).eval().requires_grad_(False)
    source = torch.Generator(device).manual_seed(5)
    for name, value in module.named_parameters():
        noise = torch.randn(value.shape, device=device, generator=source)
        value.copy_(
            noise * (0.7 / (value[0].numel() ** 0.5)) if value.dim() > 1 else noise * 0.02 + (1.0 if name.endswith("weight") else 0.0)
        )
    return module


def _sdxl(context: Context) -> tuple[torch.nn.Module, Call, list[str]]:
    config = dict(plan(dict(context.sdxl()[1])).config)
    if len(set(config["layers_per_block"])) == 1:
        # diffusers' strengths by block want a number here.
        config["layers_per_block"] = config["layers_per_block"][0]
    module = _filled(lambda: UNet2DConditionModel(**config), context.device, context.dtype)
    inputs = context.inputs(2, 1024, 1024)
    pooled = config["projection_class_embeddings_input_dim"] - 6 * config["addition_time_embed_dim"]
    given = {
        "text_embeds": inputs["y"][:, :pooled].contiguous(),
        "time_ids": torch.full((2, 6), 512.0, device=context.device, dtype=context.dtype),
    }
    when = torch.tensor(501.0, device=context.device)

    def call(each: torch.nn.Module) -> torch.Tensor:
        return each(
            inputs["sample"], when, encoder_hidden_states=inputs["encoder_hidden_states"], added_cond_kwargs=given, return_dict=False
        )[0]

    return module, call, ["to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2"]


def _flux(context: Context) -> tuple[torch.nn.Module, Call, list[str]]:
    sizes = TINY if context.tiny else REAL
    config = plan(dict(flux_shapes(*sizes))).config
    module = _filled(lambda: FluxTransformer2DModel(**config), context.device, torch.bfloat16 if not context.tiny else torch.float32)
    if context.tiny:
        module = module.float()
    dtype, device = module.dtype, context.device
    make = torch.Generator("cpu").manual_seed(0)
    tokens, words = (4096, 512) if not context.tiny else (16, 8)
    side = int(tokens**0.5)
    grid = torch.zeros(side, side, 3)
    grid[..., 1] += torch.arange(side)[:, None]
    grid[..., 2] += torch.arange(side)
    inputs = {
        "hidden_states": torch.randn(1, tokens, config["in_channels"], generator=make).to(device, dtype),
        "encoder_hidden_states": torch.randn(1, words, config["joint_attention_dim"], generator=make).to(device, dtype),
        "pooled_projections": torch.randn(1, config["pooled_projection_dim"], generator=make).to(device, dtype), "timestep": torch.tensor([0.5], device=device, dtype=dtype),
        "img_ids": grid.reshape(-1, 3).to(device, dtype), "txt_ids": torch.zeros(words, 3, device=device, dtype=dtype), "guidance": torch.tensor([3.5], device=device),
        "return_dict": False,
    }  # fmt: skip
    targets = [
        "to_q",
        "to_k",
        "to_v",
        "to_out.0",
        "add_q_proj",
        "add_k_proj",
        "add_v_proj",
        "to_add_out",
        "net.0.proj",
        "net.2",
        "proj_mlp",
        "proj_out",
    ]
    return module, lambda each: each(**inputs)[0], targets


MODELS = {"sdxl": _sdxl, "flux": _flux}


def _add(module: torch.nn.Module, names: list[str], targets: list[str]) -> None:
    for seed, name in enumerate(names):
        torch.manual_seed(100 + seed)
        module.add_adapter(LoraConfig(r=RANK, lora_alpha=RANK, target_modules=targets, init_lora_weights=False), name)
    with torch.no_grad():
        for key, value in module.named_parameters():
            if ".lora_" in key:
                value.normal_(0, 0.02 if ".lora_B." in key else 0.7 / value[0].numel() ** 0.5)
    module.requires_grad_(False)


SWITCH, FUSE = "RefitModule: swap between two adapters, set_adapters included", "PEFT: unfuse and fuse"
STEP, COMPILED = "RefitModule: step", "torch.compile of repeated blocks: step without adapters"
LOOKS = ("RefitModule: looking for changes, without adapters", "RefitModule: looking for changes, five adapters")


def run(context: Context, options: dict) -> Iterator[dict]:
    for name in options.get("models", ["sdxl"]):
        rows = []
        for tier in options.get("tiers", ["graphs", "compiled"]):
            for row in _ours(context, name, tier):
                rows.append(row)
                yield row
        if options.get("peers", True):
            for row in _peers(context, name):
                rows.append(row)
                yield row
            yield _verdict(name, rows)


def _verdict(name: str, rows: list[dict]) -> dict:
    """The best tier's step and every tier's slowest look, beside the peers of the same run."""

    def found(what: str) -> list[float]:
        return [row["median_ms"] for row in rows if row["what"] == what]

    switch, fuse, step, compiled = min(found(SWITCH)), min(found(FUSE)), min(found(STEP)), min(found(COMPILED))
    looks = max(value for what in LOOKS for value in found(what))
    return {
        "what": "verdict", "model": name, "switch_times_faster_than_fuse": round(fuse / switch, 2), "switch_ms": switch, "fuse_ms": fuse,
        "step_against_torch_compile": round(step / compiled, 3), "slowest_look_ms": looks,
        "holds": {"switch 10 times faster": fuse >= 10 * switch, "step no slower": step <= compiled, "look under 1 ms": looks < 1},
    }  # fmt: skip


def _clean() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def _ours(context: Context, name: str, tier: str) -> Iterator[dict]:
    _clean()
    module, call, targets = MODELS[name](context)
    label: dict[str, Any] = {"model": name, "tier": tier}
    plain = call(module).clone()
    yield {"what": "plain module, eager step", **label, **context.wall(lambda: call(module), warm=2)}
    held = torch.cuda.memory_allocated() if context.device.type == "cuda" else 0
    module = RefitModule(module, tier=tier if context.device.type == "cuda" else "eager")
    began = time.perf_counter()
    first = call(module).clone()
    context.sync()
    yield {
        "what": "RefitModule: first call",
        **label,
        "seconds": round(time.perf_counter() - began, 2),
        "serves": module.tier,
        "relative_error": relative_error(first, plain),
        "memory_of_module_bytes": held,
        "memory_with_engine_bytes": torch.cuda.memory_allocated() if held else 0,
    }
    yield {"what": "RefitModule: step", **label, **context.wall(lambda: call(module), warm=3)}
    looks = context.wall(lambda: module._refit._snapshot.holds())
    yield {"what": "RefitModule: looking for changes, without adapters", **label, "tensors": module._refit._snapshot.watched, **looks}
    _add(module, ["a", "b", "c", "d", "e"], targets)
    module.set_adapters(["a"], [1.0])
    call(module)
    looks = context.wall(lambda: module._refit._snapshot.holds())
    yield {"what": "RefitModule: looking for changes, five adapters", **label, "tensors": module._refit._snapshot.watched, **looks}
    five = ["a", "b", "c", "d", "e"]
    kinds = {
        "swap between two adapters": [(["b"], [1.0]), (["a"], [1.0])], "change of strength": [(["a"], [0.4]), (["a"], [1.0])],
        "stack of five": [(five, [0.3, 0.4, 0.5, 0.6, 0.7]), (five, [0.7, 0.6, 0.5, 0.4, 0.3])],
    }  # fmt: skip
    for kind, turns in kinds.items():
        calls = iter(turns * 1000)

        def swap() -> None:
            module.set_adapters(*next(calls))
            module.refit()

        yield {
            "what": f"RefitModule: {kind}, set_adapters included",
            **label,
            "layers": len(module._refit._snapshot.tuners),
            "rank": RANK,
            **context.wall(swap, warm=4),
            "refit_ms": round(module.last_refit.ms, 2),
        }
    turns = iter([["a"], ["b"]] * 1000)
    yield {"what": "RefitModule: set_adapters alone", **label, **context.wall(lambda: module.set_adapters(next(turns), [1.0]), warm=4)}

    def within() -> None:
        with module.adapters(a=0.8, b=-0.2):
            module.refit()
        module.refit()

    yield {"what": "RefitModule: with adapters(a=0.8, b=-0.2), there and back", **label, **context.wall(within, warm=2)}
    module.set_adapters(["a"], [1.0])
    one = call(module).clone()
    yield {
        "what": "RefitModule: step with an adapter",
        **label,
        **context.wall(lambda: call(module), warm=2),
        "changes_output_by": relative_error(one, plain),
    }
    module.disable_adapters()
    back = call(module)
    yield {"what": "RefitModule: back to base", **label, "bit_identical": bool(torch.equal(back, first))}
    module.enable_adapters()
    module.set_adapters(["a"], [1.0])
    yield {"what": "RefitModule: A to B to A", **label, "bit_identical": bool(torch.equal(call(module), one)), "counts": module.counts}


def _peers(context: Context, name: str) -> Iterator[dict]:
    _clean()
    module, call, targets = MODELS[name](context)
    label: dict[str, Any] = {"model": name}
    before = {key: value.detach().clone() for key, value in list(module.named_parameters())[:40]}
    _add(module, ["a", "b"], targets)
    module.set_adapters(["a"], [1.0])
    yield {"what": "PEFT: step with adapter layers, eager", **label, **context.wall(lambda: call(module), warm=2)}
    turns = iter(["a", "b"] * 1000)

    def fuse() -> None:
        module.unfuse_lora()
        which = next(turns)
        module.set_adapters([which], [1.0])
        module.fuse_lora(adapter_names=[which])

    module.fuse_lora(adapter_names=["a"])
    yield {"what": "PEFT: unfuse and fuse", **label, **context.wall(fuse, repeats=8)}
    yield {"what": "PEFT: step, fused, eager", **label, **context.wall(lambda: call(module), warm=2)}
    module.unfuse_lora()
    now = {key.replace(".base_layer.", "."): value for key, value in module.named_parameters()}
    yield {"what": "PEFT: back to base", **label, "bit_identical": all(torch.equal(value, now[key]) for key, value in before.items())}
    del module, before, now
    _clean()
    module, call, targets = MODELS[name](context)
    module.compile_repeated_blocks(fullgraph=True) if hasattr(module, "compile_repeated_blocks") and getattr(
        module, "_repeated_blocks", None
    ) else module.compile()
    began = time.perf_counter()
    call(module)
    context.sync()
    yield {"what": "torch.compile of repeated blocks: first call", **label, "seconds": round(time.perf_counter() - began, 2)}
    yield {"what": "torch.compile of repeated blocks: step without adapters", **label, **context.wall(lambda: call(module), warm=3)}
    del module
    _clean()
    torch._dynamo.reset()
    module, call, targets = MODELS[name](context)
    donor, _, _ = MODELS[name](context)
    states = []
    for number in (0, 1):
        _add(donor, [f"x{number}"], targets)
        states.append(
            {key.replace(f".x{number}.", "."): value.detach().cpu() for key, value in donor.named_parameters() if f".x{number}." in key}
        )
        donor.delete_adapters(f"x{number}")
    del donor
    _clean()
    module.enable_lora_hotswap(target_rank=RANK)
    module.load_lora_adapter(dict(states[0]), prefix=None, adapter_name="a")
    module.compile_repeated_blocks(fullgraph=True)
    began = time.perf_counter()
    call(module)
    context.sync()
    yield {"what": "hotswap, repeated blocks compiled: first call", **label, "seconds": round(time.perf_counter() - began, 2)}
    yield {"what": "hotswap, repeated blocks compiled: step", **label, **context.wall(lambda: call(module), warm=3)}
    turns = iter([states[1], states[0]] * 1000)
    yield {
        "what": "hotswap: swap",
        **label,
        **context.wall(lambda: module.load_lora_adapter(dict(next(turns)), prefix=None, adapter_name="a", hotswap=True), repeats=8),
    }
