"""The plugin in stand-ins of the UIs, on the fake sidecar: what the tests of both backends start from."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import webui_fakes
from fake_sidecar import FakeClient, FakeSidecar
from refit_sidecar_plugin.client import Tensor

CONTEXT = torch.zeros(2, 77, 768)


def make_files(root: Path) -> Path:
    """A1111's folders. The fake sidecar looks at names only."""
    for name in (
        "Stable-diffusion/base.safetensors",
        "Stable-diffusion/old.ckpt",
        "Lora/ink.safetensors",
        "Lora/neon.safetensors",
        "Lora/old.pt",
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    return root


class Ui:
    """`served` is what the engine answers: the sample plus the sum of the stack's strengths."""

    def __init__(self, root: Path, monkeypatch: Any) -> None:
        self.root = make_files(root)
        self.modules = webui_fakes.install(self.root)
        from refit_sidecar_plugin.ui.webui import plugin as module

        self.sidecar = FakeSidecar(plus_strengths)
        self.client = FakeClient(self.sidecar)
        monkeypatch.setattr(module, "SidecarClient", lambda *_: self.client)
        module.plugin.cache_clear()
        self.plugin = module.plugin()
        self.plugin.connect()

    def file(self, name: str) -> str:
        return str(self.root / name)

    @property
    def view(self) -> Any:
        return self.plugin.status.view

    @property
    def stacks(self) -> list[list[tuple[str, float]]]:
        """What engines were prepared for."""
        return [[(item["adapter"], item["strength"]) for item in params["stack"]] for params in self.sidecar.named("engine.prepare")]

    def sd_model(self, **members: Any) -> SimpleNamespace:
        name = self.file("Stable-diffusion/base.safetensors")
        info = SimpleNamespace(filename=name, name="base.safetensors", model_name="base")
        return SimpleNamespace(sd_checkpoint_info=info, **members)

    def stop(self) -> None:
        self.plugin.stop()


def plus_strengths(state: dict, tensors: dict) -> Tensor:
    sample = torch.frombuffer(bytearray(tensors["sample"].data), dtype=torch.float32).reshape(tensors["sample"].shape)
    out = (sample + sum(strength for _, strength in state["stack"])).contiguous()
    return Tensor("out_sample", "f32", tuple(out.shape), memoryview(out.reshape(-1).view(torch.uint8).numpy()))
