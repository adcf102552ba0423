"""Files in folders, a real sidecar, the plugin's client: every family is served by the torch host, without a graph, and merged right."""

from __future__ import annotations

import time

import pytest
import torch
from refit_host.distance import relative_error
from refit_host.models.bind import bind, layout_of
from refit_host.models.registry import spec_of
from refit_sidecar_plugin.client import SidecarClient, SidecarError, Tensor
from served_sidecar import Sidecar
from small_files import CHECKPOINTS, merged
from step_inputs import inputs_of

QUICK = ("z-image", "wan21-t2v")


def catalogued(client, wanted: set[str]) -> dict[str, str]:
    """File name -> catalog id, as soon as the folders were read."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        rows = client.call("catalog.list", {}).result["entries"]
        known = {row["name"]: row["id"] for row in rows}
        if wanted <= known.keys():
            return known
        time.sleep(0.1)
    raise AssertionError(f"the catalog lacks {sorted(wanted - known.keys())}")


def prepare(client, name: str, stack: dict[int, float], **changes) -> dict:
    known = catalogued(client, {f"{name}.safetensors", *(f"{name}-{seed}.safetensors" for seed in stack)})
    wanted = {
        "checkpoint": known[f"{name}.safetensors"], "stack": [{"adapter": known[f"{name}-{seed}.safetensors"], "strength": strength} for seed, strength in stack.items()],
        "profile": "auto", "precision": "auto", "host": "auto", "mode": "comfyui", "residuals": False, "priority": "user", **changes,
    }  # fmt: skip
    return client.call("engine.prepare", wanted).result


def step(client, prepared: dict, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    sent = [Tensor(name, "f32", tuple(value.shape), value.contiguous().numpy().tobytes()) for name, value in inputs.items()]
    reply = client.call("engine.step", {"lease": prepared["lease"]}, sent)
    (out,) = reply.tensors.values()
    return torch.frombuffer(bytearray(out.data), dtype=torch.float32).reshape(out.shape)


def expected(name: str, stack: dict[int, float], inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    shapes = CHECKPOINTS[name]()
    spec, values = spec_of(shapes), {key: value for key, value in merged(name, stack).items() if value.numel()}
    layout = layout_of(spec, {key: tuple(value.shape) for key, value in values.items()}, torch.float32, channels_last=False)
    arena = torch.empty(layout.nbytes, dtype=torch.uint8)
    for key, value in values.items():
        layout.by_name[key].put(arena, value)
    return spec.forward(bind(spec.build(), spec, layout, arena), inputs)


@pytest.mark.parametrize("name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.e2e) for name in CHECKPOINTS])
def test_a_checkpoint_and_a_stack_are_served_without_a_graph(client, name):
    spec = spec_of(CHECKPOINTS[name]())
    inputs = inputs_of(spec)
    base = prepare(client, name, {})
    assert base["host"] == "torch" and base["precision"] == "fp32"
    told = {port["name"]: (port["shape"], bool(port.get("optional"))) for port in base["inputs"]}
    assert told == {port["name"]: (port["shape"], bool(port.get("optional"))) for port in spec.ports.inputs}
    assert [(port["name"], port["shape"]) for port in base["outputs"]] == [(port["name"], port["shape"]) for port in spec.ports.outputs]
    plain = step(client, base, inputs)
    assert relative_error(plain, expected(name, {}, inputs)) < 1e-5
    stack = {1: 1.0, 2: -0.5}
    both = step(client, prepare(client, name, stack), inputs)
    assert relative_error(both, plain) > 1e-3
    assert relative_error(both, expected(name, stack, inputs)) < 1e-5
    other = step(client, prepare(client, name, {2: 0.7}), inputs)
    assert not torch.equal(other, both)
    assert torch.equal(step(client, prepare(client, name, stack), inputs), both)
    assert torch.equal(step(client, prepare(client, name, {}), inputs), plain)


@pytest.mark.e2e
def test_without_the_torch_host_the_message_says_what_to_install(models, tmp_path):
    for folder in ("checkpoints", "loras"):
        (tmp_path / folder).symlink_to(models / folder)
    alone = Sidecar(tmp_path)
    client = SidecarClient("test", "0", data_dir=alone.data)
    try:
        with pytest.raises(SidecarError) as failure:
            prepare(client, "z-image", {})
        assert failure.value.code == "ENGINE_UNSUPPORTED"
        assert "Z-Image" in str(failure.value) and "refit-sidecar host install torch" in str(failure.value)
    finally:
        client.close()
        alone.stop()
