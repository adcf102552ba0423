"""diffusers' own schedulers on a model of one line, as vectors for the sidecar's loop. Run: python test/sidecar/sampling/golden/make.py (writes loops.json beside it)."""

from __future__ import annotations

import json
from pathlib import Path

import diffusers
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    UniPCMultistepScheduler,
)

TRAINED = {"num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
KINDS = {"normal": {}, "karras": {"use_karras_sigmas": True}, "exponential": {"use_exponential_sigmas": True}}
NAMES = {"epsilon": "epsilon", "v": "v_prediction", "flow": "flow_prediction"}
SHAPE = (4, 4, 4)
SEEDS = (7, 2**32 + 8)


def model(x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
    return torch.tanh(0.8 * x + time / 1000)


def scheduler_of(sampler: str, prediction: str, schedule: dict):
    kind = KINDS[schedule.get("kind", "normal")]
    spacing = schedule.get("spacing", "leading")
    shared = {**TRAINED, "prediction_type": NAMES[prediction], "timestep_spacing": spacing}
    snr = {"rescale_betas_zero_snr": True} if schedule.get("zeroTerminalSnr") else {}
    if prediction == "flow" and sampler in ("dpmpp_2m", "unipc"):
        solver = DPMSolverMultistepScheduler if sampler == "dpmpp_2m" else UniPCMultistepScheduler
        return solver(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=schedule["shift"])
    if prediction == "flow":
        return FlowMatchEulerDiscreteScheduler(shift=schedule["shift"])
    if sampler == "euler":
        return EulerDiscreteScheduler(**shared, **kind, **snr)
    if sampler == "euler_ancestral":
        return EulerAncestralDiscreteScheduler(**shared, **snr)
    if sampler == "ddim":
        return DDIMScheduler(**shared, clip_sample=False, set_alpha_to_one=False)
    return (DPMSolverMultistepScheduler if sampler == "dpmpp_2m" else UniPCMultistepScheduler)(**shared, **kind)


def run(sampler: str, prediction: str, schedule: dict, eta: float = 0.0, strength: float = 1.0) -> dict:
    scheduler = scheduler_of(sampler, prediction, schedule)
    flow_euler = prediction == "flow" and sampler in ("euler", "flow_match_euler")
    count = schedule["steps"]
    if flow_euler and schedule.get("spacing", "trailing") == "trailing":
        scheduler.set_timesteps(sigmas=torch.linspace(1, 1 / count, count).tolist())
    else:
        scheduler.set_timesteps(count)
    generators = [torch.Generator().manual_seed(seed) for seed in SEEDS]
    noise = torch.stack([torch.randn(SHAPE, generator=generator) for generator in generators])
    times = scheduler.timesteps
    picture = None
    if strength < 1:
        start = count - min(int(count * strength), count)
        times = times[start:]
        if hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(start)
        picture = torch.linspace(-1, 1, 4 * 4 * 4).reshape(1, *SHAPE).expand(len(SEEDS), *SHAPE)
        at = times[:1].expand(len(SEEDS))
        x = scheduler.scale_noise(picture, at, noise) if flow_euler else scheduler.add_noise(picture, noise, at)
    else:
        x = noise if flow_euler else noise * scheduler.init_noise_sigma
    more = {"eta": eta} if sampler == "ddim" else {}
    for time in times:
        scaled = x if flow_euler else scheduler.scale_model_input(x, time)
        answer = model(scaled, torch.as_tensor(float(time)))
        draws = {"generator": generators} if sampler in ("euler_ancestral", "ddim") else {}
        x = scheduler.step(answer, time, x, **more, **draws, return_dict=False)[0]
    return {
        "sampler": sampler, "prediction": prediction, "schedule": schedule, "eta": eta, "strength": strength,
        "times": [float(time) for time in times], "latents": [round(value, 7) for value in x.flatten().tolist()],
    }  # fmt: skip


def cases():
    for sampler in ("euler", "dpmpp_2m", "unipc"):
        for kind in KINDS:
            for spacing in ("leading", "trailing", "linspace"):
                yield run(sampler, "epsilon", {"steps": 12, "kind": kind, "spacing": spacing})
        yield run(sampler, "v", {"steps": 25})
        yield run(sampler, "epsilon", {"steps": 10, "kind": "karras"}, strength=0.6)
    yield run("euler", "v", {"steps": 9, "spacing": "trailing", "zeroTerminalSnr": True})
    for spacing in ("leading", "trailing", "linspace"):
        yield run("euler_ancestral", "epsilon", {"steps": 12, "spacing": spacing})
        yield run("ddim", "epsilon", {"steps": 12, "spacing": spacing})
        yield run("ddim", "v", {"steps": 12, "spacing": spacing}, eta=0.7)
    yield run("euler_ancestral", "v", {"steps": 7})
    yield run("ddim", "epsilon", {"steps": 10}, strength=0.5)
    for sampler in ("flow_match_euler", "dpmpp_2m", "unipc"):
        for steps in (1, 2, 4, 20):
            yield run(sampler, "flow", {"steps": steps, "shift": 3.0})
        yield run(sampler, "flow", {"steps": 11, "shift": 1.0})
    yield run("flow_match_euler", "flow", {"steps": 11, "shift": 3.0, "spacing": "linspace"})
    yield run("flow_match_euler", "flow", {"steps": 10, "shift": 3.0}, strength=0.5)


def main() -> None:
    with torch.no_grad():
        rows = [json.dumps(case) for case in cases()]
    header = {"diffusers": diffusers.__version__, "torch": torch.__version__.split("+")[0], "seeds": list(SEEDS), "shape": list(SHAPE)}
    text = json.dumps(header)[:-1] + ', "cases": [\n' + ",\n".join(rows) + "\n]}\n"
    (Path(__file__).parent / "loops.json").write_text(text)
    print(f"{len(rows)} loops")


if __name__ == "__main__":
    main()
