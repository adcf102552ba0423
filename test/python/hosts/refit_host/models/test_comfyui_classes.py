"""The host's call against ComfyUI's own classes with the same weights. Needs a ComfyUI (0.33): COMFYUI_DIR and COMFYUI_PYTHON."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from engines import values, whole_engine
from family_structures import COMFYUI
from refit_host.distance import relative_error
from refit_host.models.bind import bind
from refit_host.models.registry import spec_of
from step_inputs import inputs_of, other_settings, words_of

GIVEN = os.environ.get("COMFYUI_DIR")
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(
        not GIVEN, reason="COMFYUI_DIR is not set: point it at a ComfyUI checkout (and COMFYUI_PYTHON at a Python with its requirements)"
    ),
]
SCRIPT = Path(__file__).parents[2] / "comfyui_classes.py"


# What ComfyUI's class cannot take beside the other optional inputs.
APART = {"wan21-vace": ("frame_timesteps",), "hunyuan-video-1.5": ("attention_mask",)}


# Other sizes of optional inputs: fewer pictures than frames, and more.
MORE = {"wan22-animate": ({"face_frames": 2, "pose_frames": 1}, {"face_frames": 17, "pose_frames": 5})}


# Structures whose class takes even sizes only.
EVEN = ("hunyuan-video", "wan21-vace", "sd3", "sd35-medium")


@pytest.mark.parametrize("name", COMFYUI)
def test_a_step_is_what_comfyuis_own_class_gives(name, tmp_path):
    shapes = COMFYUI[name]()
    spec = spec_of(shapes)
    weights = whole_engine(tmp_path, {key: shape for key, shape in shapes.items() if 0 not in shape}, spec=spec)
    module = bind(spec.build(), spec, weights.layout, weights.live)
    markers = {key: torch.empty(0) for key, shape in shapes.items() if 0 in shape}
    odd = (
        {"height": 11, "width": 17, "tokens": 40}
        if name not in EVEN and spec.family != "flux2"
        else {"height": 6, "width": 14, "tokens": 40}
    )
    full = {key: value for key, value in inputs_of(spec, optional=True).items() if key not in APART.get(name, ())}
    steps = [inputs_of(spec), full, inputs_of(spec, sizes=odd)]
    steps += other_settings(spec, inputs_of(spec))
    steps += [inputs_of(spec, optional=True, sizes=sizes) for sizes in MORE.get(name, ())]
    if any(port["name"] == "audio_sample" and port.get("optional") for port in spec.ports.inputs):
        # Video alone.
        steps.append({key: value for key, value in steps[0].items() if not key.startswith("audio")})
    if words := words_of(spec):
        steps.append(words)
    torch.save(
        {"family": spec.family, "config": dict(spec.config), "weights": values(weights) | markers, "steps": steps}, tmp_path / "given.pt"
    )
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "HF_HUB_OFFLINE": "1"}
    subprocess.run(
        [os.environ.get("COMFYUI_PYTHON", sys.executable), str(SCRIPT), str(tmp_path / "given.pt")],
        check=True,
        env=environment,
        timeout=300,
    )
    for step, expected in zip(steps, torch.load(tmp_path / "given.out.pt"), strict=True):
        assert relative_error(spec.forward(module, step), expected) < 1e-3
