"""Runs of one step: the exported graph in ONNX Runtime, and diffusers itself. In: random inputs from graph.json's own table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import torch
from graph_structures import Tiny


def session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def step(table: dict, batch: int, height: int, width: int, tokens: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Random inputs, residuals included, f32."""
    sizes = {"batch": batch, "height": height, "width": width, "tokens": tokens}
    sizes |= {f"{axis}_{n}": -(-sizes[axis] // n) for axis in ("height", "width") for n in (2, 4, 8)}
    draw = np.random.default_rng(seed)
    feed = {}
    for item in [*table["inputs"], *table["residuals"]]:
        shape = [sizes.get(axis, axis) for axis in item["shape"]]
        feed[item["name"]] = (0.3 * draw.standard_normal(shape)).astype(np.float32)
    feed["timestep"] = draw.uniform(0, 999, batch).round().astype(np.float32)
    return feed


def exported(run: onnxruntime.InferenceSession, model: Tiny, feed: dict[str, np.ndarray], residuals: bool = False) -> np.ndarray:
    """The graph's output as f32, with the weights fed as inputs in the graph's own types."""
    types = {item.name: np.float16 if item.type == "tensor(float16)" else np.float32 for item in run.get_inputs()}
    given = {name: value for name, value in feed.items() if residuals or "residual" not in name}
    given |= {name: tensor.numpy() for name, tensor in model.weights.items()}
    return run.run(None, {name: value.astype(types[name]) for name, value in given.items()})[0].astype(np.float32)


def diffusers(model: Tiny, feed: dict[str, np.ndarray], residuals: bool = False) -> np.ndarray:
    tensors = {name: torch.tensor(value) for name, value in feed.items()}
    unet, extra = model.unet, {}
    if "y" in tensors:
        unet.get_aug_embed = lambda emb, encoder_hidden_states, added_cond_kwargs: unet.add_embedding(added_cond_kwargs["y"])
        extra["added_cond_kwargs"] = {"y": tensors["y"]}
    if residuals:
        extra["down_block_additional_residuals"] = [tensors[name] for name in feed if name.startswith("down_residual_")]
        extra["mid_block_additional_residual"] = tensors["mid_residual"]
    with torch.no_grad():
        return unet(tensors["sample"], tensors["timestep"], tensors["encoder_hidden_states"], return_dict=False, **extra)[0].numpy()


def relative(got: np.ndarray, want: np.ndarray) -> float:
    """Largest difference over the largest value."""
    return float(np.abs(got - want).max() / np.abs(want).max())
