"""engine.sample through the plugin's client against a loop over diffusers' own scheduler and the same module, on the CPU in f32."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from types import SimpleNamespace

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    UniPCMultistepScheduler,
)
from refit_host.distance import relative_error
from refit_sidecar.calls import KNOWN
from refit_sidecar_plugin.client import Preview, SidecarClient, SidecarError, Tensor
from safetensors.torch import load_file, save_file
from served_sidecar import Sidecar
from test_served_families import catalogued
from torch import nn

ROOT = Path(__file__).resolve().parents[3]
sys.path.append(str(ROOT / "test/python/hosts/refit_sidecar"))
from conforming import CONFORMING  # noqa: E402
from small_models import seeded  # noqa: E402

RANK = 4
TOLERANCE = 1e-4
TRAINED = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1, "timestep_spacing": "leading"}
Stack = dict[int, float]


@dataclass(frozen=True)
class Model:
    """`size`: of the latents behind their channels. `conditions`: widths of the engine's inputs, by name. `feed`: an engine's inputs as the arguments of the module."""

    family: str
    channels: int
    size: tuple[int, ...]
    conditions: dict[str, tuple[int, ...]]
    stem: str
    answer: Callable[[nn.Module, dict[str, torch.Tensor]], torch.Tensor]


def _unet(module: nn.Module, given: dict[str, torch.Tensor]) -> torch.Tensor:
    more = {}
    if "y" in given:
        # The last six numbers of a picture's size are waves already: the module makes the same ones of the numbers that they stand for.
        width = module.config.projection_class_embeddings_input_dim - 6 * module.config.addition_time_embed_dim
        more = {"added_cond_kwargs": {"text_embeds": given["y"][:, :width], "time_ids": SIZES.expand(len(given["y"]), 6)}}
    return module(given["sample"], given["timestep"], given["encoder_hidden_states"], return_dict=False, **more)[0]


def _flux(module: nn.Module, given: dict[str, torch.Tensor]) -> torch.Tensor:
    batch, channels, height, width = given["sample"].shape
    rows, columns = height // 2, width // 2
    tokens = (
        given["sample"].view(batch, channels, rows, 2, columns, 2).permute(0, 2, 4, 1, 3, 5).reshape(batch, rows * columns, channels * 4)
    )
    places = torch.zeros(rows, columns, 3)
    places[..., 1], places[..., 2] = torch.arange(rows)[:, None], torch.arange(columns)[None]
    out = module(
        hidden_states=tokens, timestep=given["timestep"], guidance=given["guidance"], pooled_projections=given["y"], encoder_hidden_states=given["encoder_hidden_states"],
        txt_ids=torch.zeros(given["encoder_hidden_states"].shape[1], 3), img_ids=places.reshape(-1, 3), return_dict=False,
    )[0]  # fmt: skip
    return out.view(batch, rows, columns, channels, 2, 2).permute(0, 3, 1, 4, 2, 5).reshape(batch, channels, height, width)


def _wan(module: nn.Module, given: dict[str, torch.Tensor]) -> torch.Tensor:
    return module(
        hidden_states=given["sample"], timestep=given["timestep"], encoder_hidden_states=given["encoder_hidden_states"], return_dict=False
    )[0]


SIZES = torch.tensor([[512.0, 768.0, 0.0, 0.0, 512.0, 768.0]])
MODELS = {
    "sd15": Model("sd15", 4, (8, 8), {"encoder_hidden_states": (5, 32)}, "lora_unet_", _unet),
    "sdxl": Model("sdxl", 4, (8, 12), {"encoder_hidden_states": (5, 32), "y": (16 + 6 * 256,)}, "lora_unet_", _unet),
    "flux": Model("flux", 4, (8, 12), {"encoder_hidden_states": (5, 32), "y": (16,), "guidance": ()}, "transformer.", _flux),
    "wan": Model("wan", 16, (3, 8, 8), {"encoder_hidden_states": (5, 16)}, "transformer.", _wan),
}


def module_of(name: str) -> nn.Module:
    return seeded(CONFORMING[MODELS[name].family][0])


def factors(name: str, seed: int) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    make = torch.Generator().manual_seed(100 + seed)
    layers = {key: value for key, value in module_of(name).named_modules() if isinstance(value, nn.Linear) and ".to_" in f".{key}"}
    return {
        key: (
            torch.randn(layer.out_features, RANK, generator=make) * 0.2,
            torch.randn(RANK, layer.in_features, generator=make) / layer.in_features**0.5,
        )
        for key, layer in layers.items()
    }


def merged(name: str, stack: Stack) -> nn.Module:
    module = module_of(name)
    with torch.no_grad():
        for seed, strength in stack.items():
            for key, (up, down) in factors(name, seed).items():
                module.get_submodule(key).weight.add_(strength * (up @ down))
    return module


def write_files(folder: Path) -> None:
    for part in ("checkpoints", "loras"):
        (folder / part).mkdir()
    for name, model in MODELS.items():
        values = {key: value.contiguous() for key, value in module_of(name).state_dict().items()}
        save_file(values, folder / "checkpoints" / f"{name}.safetensors")
        for seed in (1, 2):
            tensors = {}
            for key, (up, down) in factors(name, seed).items():
                kohya = model.stem == "lora_unet_"
                stem = model.stem + (key.replace(".", "_") if kohya else key)
                tensors |= {f"{stem}.lora_{'up' if kohya else 'B'}.weight": up, f"{stem}.lora_{'down' if kohya else 'A'}.weight": down}
            save_file(tensors, folder / "loras" / f"{name}-{seed}.safetensors")


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory) -> Iterator[Sidecar]:
    if shutil.which("node") is None or not (ROOT / "sidecar/dist/src/main.js").exists():
        pytest.skip("the sidecar is not built, or there is no node on PATH (npm run build)")
    folder = tmp_path_factory.mktemp("loops")
    write_files(folder)
    made = Sidecar(folder, "--host", "torch", "--precision", "fp32", "--python", sys.executable)
    yield made
    made.stop()


@pytest.fixture(scope="module")
def client(sidecar) -> Iterator[SidecarClient]:
    made = SidecarClient("test", "0", data_dir=sidecar.data)
    yield made
    made.close()


def conditions(name: str, pictures: int, seed: int = 1) -> dict[str, torch.Tensor]:
    make = torch.Generator().manual_seed(seed)
    out = {key: torch.randn(pictures, *shape, generator=make) for key, shape in MODELS[name].conditions.items()}
    if "guidance" in out:
        out["guidance"] = torch.full((pictures,), 3.5)
    if name == "sdxl":
        module = module_of(name)
        waves = module.add_time_proj(SIZES.flatten()).reshape(1, -1).expand(pictures, -1)
        out["y"] = torch.cat([out["y"][:, : out["y"].shape[1] - waves.shape[1]], waves], dim=1)
    return out


def wire(tensor: torch.Tensor) -> Tensor:
    return Tensor("", "f32", tuple(tensor.shape), tensor.contiguous().numpy().tobytes())


def sampled(client, name: str, stack: Stack, seeds: list[int], *, cfg: float = 1.0, words: int = 1, **more):
    known = catalogued(client, {f"{name}.safetensors", *(f"{name}-{seed}.safetensors" for seed in stack)})
    items = [
        {"adapter": f"{name}-{seed}.safetensors" if seed == 2 else known[f"{name}-{seed}.safetensors"], "strength": strength}
        for seed, strength in stack.items()
    ]
    sides = {"positive": {key: wire(value) for key, value in conditions(name, len(seeds), words).items()}}
    if cfg != 1:
        sides["negative"] = {key: wire(value) for key, value in conditions(name, len(seeds), 2).items()}
        more["cfg"] = cfg
    if MODELS[name].stem == "transformer.":
        # ComfyUI knows no such spelling for Wan.
        more["mode"] = "extended"
    if "latents" not in more:
        more["size"] = list(MODELS[name].size)
    reply = client.sample(known[f"{name}.safetensors"], items, seeds=seeds, **sides, **more)
    out = reply.tensors["latents"]
    return reply.result, torch.frombuffer(bytearray(out.data), dtype=torch.float32).reshape(out.shape)


def noise_of(name: str, seeds: list[int]) -> tuple[torch.Tensor, list[torch.Generator]]:
    model = MODELS[name]
    generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
    return torch.stack([torch.randn(model.channels, *model.size, generator=make) for make in generators]), generators


def looped(
    name: str,
    stack: Stack,
    seeds: list[int],
    scheduler,
    *,
    cfg: float = 1.0,
    words: int = 1,
    times_by: float = 1.0,
    draws: bool = False,
    **options,
) -> torch.Tensor:
    """As diffusers' pipelines loop: the negative half first, one call for both."""
    module, model = merged(name, stack), MODELS[name]
    given = conditions(name, len(seeds), words)
    against = conditions(name, len(seeds), 2)
    x, generators = noise_of(name, seeds)
    x = x * getattr(scheduler, "init_noise_sigma", 1.0)
    for time in scheduler.timesteps:
        scaled = scheduler.scale_model_input(x, time) if hasattr(scheduler, "scale_model_input") else x
        both = {key: torch.cat([against[key], value]) for key, value in given.items()} if cfg != 1 else given
        sample = torch.cat([scaled, scaled]) if cfg != 1 else scaled
        out = model.answer(module, {**both, "sample": sample, "timestep": (time * times_by).float().expand(len(sample))})
        if cfg != 1:
            negative, positive = out.chunk(2)
            out = negative + cfg * (positive - negative)
        x = scheduler.step(out, time, x, **options, **({"generator": generators} if draws else {}), return_dict=False)[0]
    return x


def diffusion(kind, steps: int, prediction: str = "epsilon", **options):
    scheduler = kind(**TRAINED, prediction_type=prediction, **options)
    scheduler.set_timesteps(steps)
    return scheduler


def flow_euler(steps: int, shift: float):
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(sigmas=torch.linspace(1, 1 / steps, steps).tolist())
    return scheduler


def flow_unipc(steps: int, shift: float):
    scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=shift)
    scheduler.set_timesteps(steps)
    return scheduler


V = {"prediction": "v"}
CASES = {
    "sd15 euler": ("sd15", 7.5, "euler", {"steps": 8}, {}, lambda: diffusion(EulerDiscreteScheduler, 8), {}),
    "sd15 ancestral": ("sd15", 5.0, "euler_ancestral", {"steps": 6}, {}, lambda: diffusion(EulerAncestralDiscreteScheduler, 6), {"draws": True}),
    "sd15 dpm++ karras": ("sd15", 7.5, "dpmpp_2m", {"steps": 9, "kind": "karras"}, {}, lambda: diffusion(DPMSolverMultistepScheduler, 9, use_karras_sigmas=True), {}),
    "sd15 v ddim": ("sd15", 4.0, "ddim", {"steps": 6}, {**V, "eta": 0.5},
                    lambda: diffusion(DDIMScheduler, 6, "v_prediction", clip_sample=False, set_alpha_to_one=False), {"draws": True, "eta": 0.5}),
    "sdxl euler": ("sdxl", 6.0, "euler", {"steps": 6}, {}, lambda: diffusion(EulerDiscreteScheduler, 6), {}),
    "sdxl v unipc": ("sdxl", 6.0, "unipc", {"steps": 7}, V, lambda: diffusion(UniPCMultistepScheduler, 7, "v_prediction"), {}),
    "flux": ("flux", 1.0, "flow_match_euler", {"steps": 4, "shift": 3.0}, {}, lambda: flow_euler(4, 3.0), {"times_by": 1 / 1000}),
    "flux with a negative prompt": ("flux", 2.0, "euler", {"steps": 4, "shift": 1.5}, {}, lambda: flow_euler(4, 1.5), {"times_by": 1 / 1000}),
    "wan unipc": ("wan", 5.0, "unipc", {"steps": 6, "shift": 3.0}, {}, lambda: flow_unipc(6, 3.0), {}),
}  # fmt: skip


def steps_run(client) -> int:
    return sum(row["steps"] for row in client.call("engine.list", {}).result["engines"])


@pytest.mark.parametrize("case", [pytest.param(case, marks=pytest.mark.e2e) if case.startswith("sdxl") else case for case in CASES])
def test_a_loop_is_diffusers_own(client, case):
    name, cfg, sampler, schedule, more, scheduler, options = CASES[case]
    seeds, stack = [11, 2**32 + 12], {1: 0.8, 2: -0.4}
    before = steps_run(client)
    told: list[dict] = []
    result, latents = sampled(client, name, stack, seeds, cfg=cfg, sampler=sampler, schedule=schedule, progress=told.append, **more)
    expected = looped(name, stack, seeds, scheduler(), cfg=cfg, **options)
    plain = looped(name, {}, seeds, scheduler(), cfg=cfg, **options)
    assert relative_error(latents, expected) < TOLERANCE
    assert relative_error(plain, expected) > 100 * TOLERANCE
    assert result["host"] == "torch" and result["precision"] == "fp32" and result["seeds"] == seeds
    assert result["steps"] == result["calls"] == schedule["steps"] == steps_run(client) - before
    assert [row["adapter"] for row in result["adapters"]] and told[-1]["done"] == told[-1]["total"] == schedule["steps"]


def test_one_seed_gives_one_picture_whatever_came_between(client):
    def drawn(stack: Stack) -> torch.Tensor:
        return sampled(client, "sd15", stack, [5], cfg=3.0, sampler="euler_ancestral", schedule={"steps": 4})[1]

    first, other = drawn({1: 1.0}), drawn({2: 1.0})
    assert torch.equal(drawn({1: 1.0}), first) and torch.equal(drawn({1: 1.0}), first) and not torch.equal(first, other)
    assert torch.equal(drawn({2: 1.0}), other)


def test_loops_of_many_clients_with_their_own_stacks_never_cross(sidecar, client):
    jobs = [({1: 0.1 * (number % 4)} if number % 4 else {}, 20 + number) for number in range(12)]
    got: dict[int, tuple[dict, torch.Tensor]] = {}

    def one(number: int) -> None:
        with SidecarClient(f"client {number}", "0", data_dir=sidecar.data) as own:
            stack, seed = jobs[number]
            got[number] = sampled(own, "sd15", stack, [seed], sampler="euler", schedule={"steps": 5}, words=number)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(len(jobs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got) == list(range(len(jobs)))
    for number, (stack, seed) in enumerate(jobs):
        expected = looped("sd15", stack, [seed], diffusion(EulerDiscreteScheduler, 5), words=number)
        assert relative_error(got[number][1], expected) < TOLERANCE


def test_explicit_sigmas_noise_and_a_picture_to_start_from(client):
    name, seeds = "sd15", [3]
    noise, _ = noise_of(name, seeds)
    scheduler = EulerDiscreteScheduler(**TRAINED)
    scheduler.set_timesteps(sigmas=[9.0, 3.0, 1.0, 0.0])
    expected = looped(name, {}, seeds, scheduler)
    given = {"noise": wire(noise)}
    _, latents = sampled(client, name, {}, seeds, sampler="euler", schedule={"sigmas": [9.0, 3.0, 1.0, 0.0]}, latents=given)
    assert relative_error(latents, expected) < TOLERANCE
    picture = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(9))
    given = {"noise": wire(noise), "latent": wire(picture)}
    _, latents = sampled(client, name, {}, seeds, sampler="ddim", schedule={"steps": 10}, latents=given, strength=0.3)
    scheduler = diffusion(DDIMScheduler, 10, clip_sample=False, set_alpha_to_one=False)
    times = scheduler.timesteps[7:]
    x, module, model = scheduler.add_noise(picture, noise, times[:1]), module_of(name), MODELS[name]
    for time in times:
        out = model.answer(module, {**conditions(name, 1), "sample": x, "timestep": time.float().expand(1)})
        x = scheduler.step(out, time, x, return_dict=False)[0]
    assert relative_error(latents, x) < TOLERANCE


EULER = {"sampler": "euler", "schedule": {"steps": 2}}
BAD = {
    "sigmas that rise": ({**EULER, "schedule": {"sigmas": [1.0, 2.0, 0.0]}}, "SAMPLE_INVALID", "schedule.sigmas.1"),
    "no sampler of that name": ({**EULER, "sampler": "heun"}, "WIRE_PARAMS_INVALID", "params.sampler"),
    "no steps": ({**EULER, "schedule": {"steps": 0}}, "WIRE_PARAMS_INVALID", "params.schedule"),
    "a shift without a flow": ({**EULER, "schedule": {"steps": 2, "shift": 3.0}}, "SAMPLE_INVALID", "schedule.shift"),
    "a flow's sampler": ({**EULER, "sampler": "flow_match_euler"}, "SAMPLE_INVALID", "sampler"),
    "another size": ({**EULER, "size": [8]}, "SAMPLE_INVALID", "size"),
    "too large": ({**EULER, "size": [65536, 65536]}, "SAMPLE_INVALID", "size"),
    "no negative side": ({**EULER, "cfg": 4.0}, "SAMPLE_INVALID", "cfg"),
    "eta of another sampler": ({**EULER, "eta": 0.5}, "SAMPLE_INVALID", "eta"),
    "a strength without a picture": ({**EULER, "strength": 0.5}, "SAMPLE_INVALID", "strength"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_does_not_fit_is_refused_by_its_field_before_an_engine_is_touched(client, case):
    params, code, field = BAD[case]
    checkpoint = catalogued(client, {"sd15.safetensors"})["sd15.safetensors"]
    before = len(client.call("engine.history", {}).result["records"]), steps_run(client)
    positive = {"encoder_hidden_states": wire(torch.zeros(1, 5, 32))}
    with pytest.raises(SidecarError) as failure:
        client.sample(checkpoint, seeds=[1], positive=positive, **{"size": [8, 8], **params})
    assert failure.value.code == code and field in str(failure.value)
    assert (len(client.call("engine.history", {}).result["records"]), steps_run(client)) == before


BAD_TENSORS = {
    "NaN": ({"encoder_hidden_states": torch.full((1, 5, 32), float("nan"))}, "positive.encoder_hidden_states: expected finite"),
    "another width": ({"encoder_hidden_states": torch.zeros(1, 5, 31)}, "expected [1, tokens, 32], got [1, 5, 31]"),
    "an input that there is not": ({"encoder_hidden_states": torch.zeros(1, 5, 32), "y": torch.zeros(1, 4)}, "positive.y"),
    "the loop's own input": ({"encoder_hidden_states": torch.zeros(1, 5, 32), "timestep": torch.zeros(1)}, "positive.timestep"),
    "nothing": ({}, "expected the tensor positive.encoder_hidden_states"),
}


@pytest.mark.parametrize("case", BAD_TENSORS)
def test_tensors_that_do_not_fit_are_refused_by_name(client, case):
    tensors, text = BAD_TENSORS[case]
    checkpoint = catalogued(client, {"sd15.safetensors"})["sd15.safetensors"]
    with pytest.raises(SidecarError) as failure:
        client.sample(checkpoint, seeds=[1], positive={key: wire(value) for key, value in tensors.items()}, size=[8, 8], **EULER)
    assert failure.value.code == "SAMPLE_INVALID" and text in str(failure.value)


def test_a_cancelled_loop_gives_the_engine_back(client):
    name = "sd15"
    checkpoint = catalogued(client, {f"{name}.safetensors"})[f"{name}.safetensors"]
    positive = {key: wire(value) for key, value in conditions(name, 1).items()}
    told: list[dict] = []
    before = steps_run(client)
    with pytest.raises(SidecarError) as failure:
        client.sample(
            checkpoint, seeds=[1], positive=positive, size=[8, 8], sampler="euler", schedule={"steps": 500}, progress=told.append, check=lambda: bool(told)
        )  # fmt: skip
    assert failure.value.code == "CLIENT_INTERRUPTED"
    _, latents = sampled(client, name, {}, [5], sampler="euler", schedule={"steps": 2})
    assert torch.isfinite(latents).all()
    assert steps_run(client) - before < 500
    assert all(row["leases"] == 0 for row in client.call("engine.list", {}).result["engines"])


def colours(latents: torch.Tensor) -> torch.Tensor:
    """Of SD 1.x: channels to red, green and blue, -1 to 1 as black to full."""
    factors = torch.tensor([[0.3512, 0.2297, 0.3227], [0.3250, 0.4974, 0.2350], [-0.2829, 0.1762, 0.2721], [-0.2120, -0.2616, -0.7177]])
    return ((torch.einsum("bchw,cd->bhwd", latents, factors) + 1) * 127.5).clamp(0, 255)


@pytest.mark.parametrize("kind", ["latents", "rgb"])
def test_previews_are_what_diffusers_takes_for_the_picture_at_each_step(client, kind):
    stack, seeds = {1: 0.8}, [11, 12]
    scheduler = diffusion(EulerDiscreteScheduler, 6)
    predicted: list[torch.Tensor] = []
    step = scheduler.step

    def noted(*given, **more):
        more["return_dict"] = True
        out = step(*given, **more)
        predicted.append(out.pred_original_sample)
        return (out.prev_sample,)

    scheduler.step = noted
    looped("sd15", stack, seeds, scheduler, cfg=3.0)
    told: list[Preview] = []
    before = steps_run(client)
    sampled(
        client,
        "sd15",
        stack,
        seeds,
        cfg=3.0,
        sampler="euler",
        schedule={"steps": 6},
        preview=told.append,
        previews={"kind": kind, "every": 2},
    )
    assert steps_run(client) - before == 6
    # The one of the last step may be left out: the answer comes right behind it.
    assert [seen.done for seen in told] in ([2, 4], [2, 4, 6]) and {seen.total for seen in told} == {6}
    for done, _, tensor in told:
        expected = predicted[done - 1]
        if kind == "latents":
            got = torch.frombuffer(bytearray(tensor.data), dtype=torch.float32).reshape(tensor.shape)
            assert relative_error(got, expected) < TOLERANCE
        else:
            got = torch.frombuffer(bytearray(tensor.data), dtype=torch.uint8).reshape(tensor.shape)
            assert tensor.dtype == "u8" and tensor.shape == (2, 8, 8, 3)
            assert (got.float() - colours(expected)).abs().max() <= 1 and got.float().std() > 1


def test_a_client_that_looks_slowly_gets_the_newest_preview_and_holds_no_step_up(sidecar, client):
    told: list[Preview] = []
    start = steps_run(client)
    with SidecarClient("watcher", "0", data_dir=sidecar.data) as watcher:

        def look(seen: Preview) -> None:
            told.append(seen)
            deadline = monotonic() + 120
            # The first look lasts as long as the whole loop.
            while len(told) == 1 and steps_run(watcher) - start < 60:
                assert monotonic() < deadline
                sleep(0.01)

        result, latents = sampled(client, "sd15", {}, [7], sampler="euler", schedule={"steps": 60}, preview=look)
    assert result["steps"] == 60 and torch.isfinite(latents).all()
    assert 1 <= len(told) <= 2 and [seen.done for seen in told] == sorted(seen.done for seen in told)


def test_a_preview_may_end_the_loop(client):
    class Enough(Exception):
        pass

    def look(seen: Preview) -> None:
        raise Enough

    before = steps_run(client)
    with pytest.raises(Enough):
        sampled(client, "sd15", {}, [7], sampler="euler", schedule={"steps": 500}, preview=look)
    sampled(client, "sd15", {}, [7], sampler="euler", schedule={"steps": 2})
    assert steps_run(client) - before < 500


def test_colours_of_latents_that_nobody_knows_are_refused_and_previews_that_nobody_takes(client):
    # Flux as it is trained has 16 channels; this small one has 4.
    with pytest.raises(SidecarError, match="expected the kind latents.*4 channels") as failure:
        sampled(client, "flux", {}, [1], sampler="euler", schedule={"steps": 2, "shift": 1.0}, preview=lambda _: None)
    assert failure.value.code == "SAMPLE_INVALID"
    with pytest.raises(ValueError, match="expected preview with it"):
        sampled(client, "sd15", {}, [1], sampler="euler", schedule={"steps": 2}, previews={"kind": "rgb"})


def test_every_module_that_is_called_here_is_one_that_a_running_sidecar_steps():
    assert {type(module_of(name)).__name__ for name in MODELS} <= KNOWN.keys()


@pytest.fixture
def http_request(client, tmp_path) -> torch.Tensor:
    """`request.json` is in `tmp_path`; what its answer has to be."""
    _, expected = sampled(client, "sd15", {2: 0.5}, [8], cfg=3.0, sampler="euler", schedule={"steps": 3})
    tensors = [
        {"name": f"{side}.{key}", "dtype": "f32", "shape": list(value.shape), "data": base64.b64encode(value.numpy().tobytes()).decode()}
        for side, seed in (("positive", 1), ("negative", 2))
        for key, value in conditions("sd15", 1, seed).items()
    ]
    request = {
        "checkpoint": "sd15.safetensors", "stack": [{"adapter": "sd15-2.safetensors", "strength": 0.5}], "sampler": "euler", "schedule": {"steps": 3}, "cfg": 3.0, "seeds": [8],
        "size": [8, 8], "tensors": tensors,
    }  # fmt: skip
    (tmp_path / "request.json").write_text(json.dumps(request))
    return expected


def test_curl_gets_the_same_latents(sidecar, http_request, tmp_path):
    if shutil.which("curl") is None:
        pytest.skip("there is no curl on PATH")
    expected = http_request
    address = json.loads((sidecar.data / "sidecar.json").read_text())
    command = ["curl", "-s", "-H", f"Authorization: Bearer {address['token']}", "-H", "Content-Type: application/json", "--data-binary", f"@{tmp_path}/request.json",
               f"{address['url']}/sample"]  # fmt: skip
    answer = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    assert answer["host"] == "torch" and answer["calls"] == 3 and answer["refits"]["count"] == 0
    (latents,) = answer["tensors"]
    assert base64.b64decode(latents["data"]) == expected.numpy().tobytes() and latents["shape"] == [1, 4, 8, 8]
    subprocess.run([*command, "-H", "Accept: application/octet-stream", "-o", str(tmp_path / "latents.safetensors")], check=True)
    assert torch.equal(load_file(tmp_path / "latents.safetensors")["latents"], expected)


def python_blocks(page: str, **instead: str) -> list[str]:
    """Of a page, with its examples' names and sizes replaced by those of the models here."""
    text = (ROOT / "docs" / page).read_text()
    for old, new in instead.items():
        assert old in text
        text = text.replace(old, new)
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def test_the_script_of_the_page_makes_its_pictures(sidecar, client, tmp_path, monkeypatch):
    given = conditions("sdxl", 1), conditions("sdxl", 1, 2)
    saved: list[str] = []

    def postprocess(decoded: torch.Tensor) -> list:
        return [SimpleNamespace(save=saved.append) for _ in decoded]

    pipe = SimpleNamespace(
        encode_prompt=lambda prompt, negative_prompt: (
            *(side["encoder_hidden_states"] for side in given),
            *(side["y"][:, :16] for side in given),
        ),
        vae=SimpleNamespace(config=SimpleNamespace(scaling_factor=0.5), decode=lambda latents: SimpleNamespace(sample=latents)),
        image_processor=SimpleNamespace(postprocess=postprocess),
    )
    monkeypatch.setattr("diffusers.StableDiffusionXLPipeline.from_pretrained", lambda name, unet: pipe)
    monkeypatch.setenv("REFIT_DATA_DIR", str(sidecar.data))
    monkeypatch.chdir(tmp_path)
    known = catalogued(client, {"sdxl.safetensors", "sdxl-2.safetensors"})
    names = {"sd_xl_base_1.0.safetensors": "sdxl.safetensors", "style.safetensors": "sdxl-2.safetensors"}
    picture, previews = python_blocks("use/scripts.md", **names, **{"side = 1024": "side = 64", '"steps": 25': '"steps": 3'})
    page: dict = {}
    exec(picture, page)

    waves = module_of("sdxl").add_time_proj(torch.tensor([64.0, 64, 0, 0, 64, 64])).reshape(1, -1)
    sides = [{**side, "y": torch.cat([side["y"][:, :16], waves], dim=1)} for side in given]
    positive, negative = ({key: wire(value) for key, value in side.items()} for side in sides)
    reply = client.sample(
        known["sdxl.safetensors"], [{"adapter": known["sdxl-2.safetensors"], "strength": 0.8}], sampler="dpmpp_2m", schedule={"steps": 3, "kind": "karras"},
        cfg=6.0, seeds=[1234, 1235], size=[8, 8], positive=positive, negative=negative,
    )  # fmt: skip
    assert page["latents"].numpy().tobytes() == bytes(reply.tensors["latents"].data)
    assert saved == ["lighthouse-1234.png", "lighthouse-1235.png"]
    exec(previews, page)


def test_the_http_request_of_the_page_gets_the_same_latents(sidecar, http_request, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (block,) = python_blocks("operate/service.md", **{"/var/lib/refit-sidecar/sidecar.json": str(sidecar.data / "sidecar.json")})
    page: dict = {}
    exec(block, page)
    assert page["values"] == http_request.numpy().tobytes()
