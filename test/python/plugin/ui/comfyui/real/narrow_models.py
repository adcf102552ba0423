"""Narrow relatives of the families' files in diffusion_models, and a ComfyUI with a sidecar of its own that serves them by the torch host."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from comfy_server import REPO, ComfyServer

sys.path[:0] = [
    str(REPO / path)
    for path in ("plugin", "sidecar/hosts/python", "", "test/python/hosts/refit_graphs", "test/python/hosts", "test/python/served")
]

from served_sidecar import Sidecar  # noqa: E402
from small_files import write_adapter, write_checkpoint  # noqa: E402


def loader_reads_settings() -> bool:
    """Whether this ComfyUI's "Load Diffusion Model" reads the settings in a file's header; 0.3.64 reads them in checkpoints alone."""
    source = (Path(os.environ["COMFYUI_DIR"]) / "comfy" / "sd.py").read_text(encoding="utf-8")
    return "load_torch_file(unet_path, return_metadata=True)" in source


def write_narrow(folder: Path, names: Iterable[str]) -> Path:
    """A checkpoint of each structure with one LoRA under `folder`/models; those of a kept folder stay as they are."""
    models = folder / "models"
    models.mkdir(exist_ok=True)
    for name in names:
        if not (models / "diffusion_models" / f"{name}.safetensors").exists():
            write_checkpoint(models / "diffusion_models", name, settings=loader_reads_settings())
            write_adapter(models / "loras", name, 1)
    return folder


def write_sd3_control(models: Path) -> None:
    """A ControlNet of sd3_tiny as InstantX and diffusers write them, and a LoRA on what makes a model's pooled words."""
    import torch
    from diffusers import SD3ControlNetModel
    from safetensors.torch import save_file

    if (models / "controlnet" / "sd3_instantx.safetensors").exists():
        return
    make = torch.Generator().manual_seed(61)
    net = SD3ControlNetModel(
        sample_size=8, patch_size=2, in_channels=16, num_layers=1, attention_head_dim=64, num_attention_heads=2, joint_attention_dim=4096,
        caption_projection_dim=128, pooled_projection_dim=2048, out_channels=16, pos_embed_max_size=8,
    )  # fmt: skip
    (models / "controlnet").mkdir(exist_ok=True)
    tensors = {name: (torch.randn(value.shape, generator=make) * 0.02).half() for name, value in net.state_dict().items()}
    save_file(tensors, str(models / "controlnet" / "sd3_instantx.safetensors"))
    words = {
        f"diffusion_model.y_embedder.mlp.2.lora_{side}.weight": (torch.randn(shape, generator=make) * 0.05).half()
        for side, shape in (("A", (4, 128)), ("B", (128, 4)))
    }
    save_file(words, str(models / "loras" / "sd3-words.safetensors"))


def write_ic_lora(models: Path) -> None:
    """A LoRA that says in its header that guides are half as large as the video."""
    from safetensors.torch import load_file, save_file

    save_file(
        load_file(str(models / "loras" / "ltxv-1.safetensors")),
        str(models / "loras" / "ltxv-ic.safetensors"),
        {"reference_downscale_factor": "2"},
    )


def write_control_lora(models: Path) -> None:
    """A LoRA of Flux.1 as its authors' canny and depth LoRAs are: the model takes a second picture beside the first."""
    import torch
    from safetensors.torch import load_file, save_file

    shapes = {name: value.shape for name, value in load_file(str(models / "diffusion_models" / "flux-dev.safetensors")).items()}
    make = torch.Generator().manual_seed(62)
    layers = ["img_in", "double_blocks.0.img_mlp.0", "single_blocks.0.linear2"]
    sizes = {layer: (shapes[f"{layer}.weight"][0], shapes[f"{layer}.weight"][1] * (1 + (layer == "img_in"))) for layer in layers}
    out = {
        f"{layer}.lora_{side}.weight": torch.randn(shape, generator=make) * 0.1
        for layer, (rows, columns) in sizes.items()
        for side, shape in (("A", (4, columns)), ("B", (rows, 4)))
    }
    out["single_blocks.0.norm.key_norm.scale"] = torch.full(shapes["single_blocks.0.norm.key_norm.scale"], 1.1)
    save_file(out, str(models / "loras" / "flux-control.safetensors"))


@contextmanager
def torch_sidecar(folder: Path, precision: str = "fp32") -> Iterator[Sidecar]:
    """On the models under `folder`."""
    python = os.environ.get("REFIT_TEST_PYTHON", sys.executable)
    folders = ("models/diffusion_models", "models/loras")
    made = Sidecar(folder, "--host", "torch", "--precision", precision, "--python", python, folders=folders)
    try:
        yield made
    finally:
        made.stop()


@contextmanager
def comfyui_with(sidecar: Sidecar, *arguments: str, **variables: str) -> Iterator[ComfyServer]:
    """On the same models."""
    environment = {"REFIT_DATA_DIR": str(sidecar.data), "REFIT_SIDECAR": "off", "OMP_NUM_THREADS": "1", **variables}
    made = ComfyServer(sidecar.folder, environment=environment, arguments=list(arguments)).ready()
    try:
        yield made
    finally:
        made.stop()
