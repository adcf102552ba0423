"""Families in bf16 in a real ComfyUI: the engine is as near to ComfyUI's own bf16 as rounding allows.

How near that is, ComfyUI's own f32 tells. What one side rounds and the other does not (a guidance of 3.5, times 1000 in bf16, is 3504) moves it further away than
everything else together.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from comfy_run import Run, rms
from family_workflows import WORKFLOWS, skip_where_unknown
from narrow_models import comfyui_with, torch_sidecar, write_narrow


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    """ComfyUI in bf16 beside an engine in bf16, and ComfyUI in f32."""
    models = write_narrow(tmp_path_factory.mktemp("half"), WORKFLOWS)
    with (
        torch_sidecar(models, "bf16") as sidecar,
        comfyui_with(sidecar, "--bf16-unet", REFIT_TEST_BF16="1") as half,
        comfyui_with(sidecar) as whole,
    ):
        yield half, whole


@pytest.mark.parametrize("name", WORKFLOWS)
def test_an_engine_rounds_where_comfyui_rounds(servers, tmp_path, name):
    skip_where_unknown(name)
    choices = replace(WORKFLOWS[name], checkpoint=f"{name}.safetensors", adapters=[(f"{name}-1.safetensors", 0.8)], steps=2)
    own, served = Run(servers[0], tmp_path).both(choices)
    true = Run(servers[1], tmp_path)(replace(choices, loader="CheckpointLoaderSimple", seed=choices.seed))
    from_own, own_error, error = rms(served - own), rms(own - true), rms(served - true)
    assert torch.isfinite(served).all() and own_error > 0
    assert from_own <= 2.5 * min(own_error, error), (from_own / rms(true), own_error / rms(true), error / rms(true))
