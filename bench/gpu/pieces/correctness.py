"""Twenty random stacks: the engine's output after a swap against the same module with weights merged in f32, and A -> B -> A."""

from __future__ import annotations

import random
from typing import Iterator

import torch

from ..context import Context, relative_error
from ..engine import Engine


def _merged_apart(engine: Engine, stack: list) -> dict[str, torch.Tensor]:
    """Weights of a stack by plain f32 arithmetic, rounded once; nothing of the host's merge code is used."""
    out = {}
    for index in {index for path, _ in stack for index in engine.image(path).every}:
        slot = engine.layout.slots[index]
        value = slot.get(engine.weights.base.arena).to(engine.context.device).float()
        for path, strength in stack:
            image = engine.image(path)
            for term in image.every.get(index, []):
                up, down = (image.factor(term.factors[role], image.factors).to(value.device).float() for role in ("up", "down"))
                value = value + (strength * term.scale) * (up.flatten(1) @ down.flatten(1)).view(value.shape)
        out[slot.name] = value.to(slot.dtype)
    return out


def run(context: Context, options: dict) -> Iterator[dict]:
    engine = Engine(context, "resident")
    choose = random.Random(7)
    inputs = context.inputs(2, 1024, 1024)
    paths = [context.adapter(seed) for seed in range(6)]
    # The order of sums inside one GEMM may differ by layout, so two equal runs set the scale of what counts as different.
    worst_output, worst_weight, different = 0.0, 0.0, 0
    first: tuple[list, int] | None = None
    for _turn in range(options.get("stacks", 20)):
        stack = [(path, round(choose.uniform(-1.0, 1.5), 2)) for path in choose.sample(paths, choose.randint(1, 5))]
        engine.swap(stack)
        first = first or (stack, engine.digest())
        output = engine.forward(inputs).clone()
        reference = _merged_apart(engine, stack)
        kept = {}
        for name, value in reference.items():
            slot = engine.layout.by_name[name]
            live = slot.get(engine.weights.live)
            worst_weight = max(worst_weight, relative_error(live, value))
            different += int((live != value).sum())
            kept[name] = live.clone()
            slot.put(engine.weights.live, value)
        worst_output = max(worst_output, relative_error(output, engine.forward(inputs)))
        for name, value in kept.items():
            engine.layout.by_name[name].put(engine.weights.live, value)
    assert first is not None
    engine.swap(first[0])
    yield {
        "what": "random stacks",
        "stacks": options.get("stacks", 20),
        "worst_output_error": worst_output,
        "worst_weight_error": worst_weight,
        "weights_rounded_differently": different,
        "first_stack_bit_identical_again": engine.digest() == first[1],
        "output_finite": bool(torch.isfinite(engine.forward(inputs)).all()),
    }
