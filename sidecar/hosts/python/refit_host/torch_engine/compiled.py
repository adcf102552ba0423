"""torch.compile of the blocks that a model repeats: most of the whole model's gain for a fraction of its compile time.

Compiled code takes weights as inputs, so it serves every checkpoint of a structure. Cache artifacts are the engine file.
"""

from __future__ import annotations

from typing import Any, Iterable

import torch


def compile_blocks(module: torch.nn.Module, classes: Iterable[str], **options: Any) -> int:
    """Marks every submodule of these classes for compilation; returns how many. Compilation happens at the first call."""
    wanted = set(classes)
    # One class serves many shapes of weights: each is its own entry of the same code.
    torch._dynamo.config.cache_size_limit = max(64, torch._dynamo.config.cache_size_limit)
    found = [child for child in module.modules() if type(child).__name__ in wanted]
    for child in found:
        child.compile(**options)
    return len(found)
