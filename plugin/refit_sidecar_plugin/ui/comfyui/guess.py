"""What a sampler of a prompt will want of an engine, read from the prompt's graph. A guess: only nodes whose answer is known without running them are followed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

# Of ComfyUI itself: MODEL with one more LoRA.
LORA_LOADERS = ("LoraLoader", "LoraLoaderModelOnly")
ENGINE_LOADERS = ("RefitLoadEngine", "RefitLoadEngineLora", "RefitLoadEngineStacked")
KNOWN = frozenset((*LORA_LOADERS, *ENGINE_LOADERS))
MODEL_OUTPUT = 0
# Longer chains than anybody builds; a graph may hold a circle, too.
LONGEST_CHAIN = 64

Graph = Mapping[str, Any]


@dataclass(frozen=True)
class Guess:
    """`stack`: LoRA names of the loras folders with their strengths, in order of application."""

    checkpoint: str
    host: str
    precision: str
    stack: tuple[tuple[str, float], ...] = ()


def guess(graph: Graph) -> Guess | None:
    """The one engine and stack that nodes of this prompt (API format) are given; None where there are several, or none that can be told."""
    wanted = {
        found
        for node in graph.values()
        if isinstance(node, dict) and node.get("class_type") not in KNOWN
        for value in _inputs(node).values()
        if (found := _model(graph, value, LONGEST_CHAIN)) is not None
    }
    return wanted.pop() if len(wanted) == 1 else None


def _inputs(node: Any) -> dict[str, Any]:
    inputs = node.get("inputs") if isinstance(node, dict) else None
    return inputs if isinstance(inputs, dict) else {}


def _linked(graph: Graph, link: Any) -> tuple[str, dict[str, Any], Any] | None:
    """Class and inputs of the node that a link comes from, and which of its outputs."""
    if not (isinstance(link, list) and len(link) == 2) or not isinstance(node := graph.get(str(link[0])), dict):
        return None
    return str(node.get("class_type")), _inputs(node), link[1]


def _model(graph: Graph, link: Any, left: int) -> Guess | None:
    found = _linked(graph, link)
    if found is None or left == 0 or found[2] != MODEL_OUTPUT:
        return None
    kind, inputs, _ = found
    if kind in LORA_LOADERS:
        return _with(_model(graph, inputs.get("model"), left - 1), inputs, "strength_model", "strength_clip")
    if kind not in ENGINE_LOADERS or not isinstance(inputs.get("ckpt_name"), str):
        return None
    base = Guess(inputs["ckpt_name"], str(inputs.get("host", "auto")), str(inputs.get("precision", "auto")))
    if kind == "RefitLoadEngineLora":
        return _with(base, inputs, "strength", "strength")
    return _with_stack(graph, base, inputs.get("lora_stack"), left - 1) if kind == "RefitLoadEngineStacked" else base


def _with(model: Guess | None, inputs: dict[str, Any], strength: str, of_clip: str) -> Guess | None:
    """With one LoRA more, as its loader reads its inputs; None where one of them is another node's output."""
    name, value, clip = inputs.get("lora_name"), _number(inputs.get(strength)), _number(inputs.get(of_clip, 0))
    if model is None or not isinstance(name, str) or value is None or clip is None:
        return None
    return model if value == clip == 0 else replace(model, stack=(*model.stack, (name, value)))


def _with_stack(graph: Graph, model: Guess, link: Any, left: int) -> Guess | None:
    """With the LoRAs of this pack's stack nodes, the first one furthest from the loader."""
    if link is None:
        return model
    found = _linked(graph, link)
    if found is None or left <= 0 or found[0] != "RefitLoraStack":
        return None
    before = _with_stack(graph, model, found[1].get("lora_stack"), left - 1)
    return _with(before, found[1], "strength", "strength")


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
