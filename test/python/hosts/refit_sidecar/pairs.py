"""A RefitModule beside a plain twin: whatever is done to both, both must answer alike."""

from __future__ import annotations

from typing import Any, Callable

import torch
from peft import LoraConfig
from refit_sidecar import RefitModule
from small_models import Call, output, seeded
from torch import nn

TARGETS = r".*(to_q|to_k|to_v|to_out\.0|conv1|net\.2|attention\.to_q|w1)$"


class Pair:
    def __init__(self, make: Callable[[], nn.Module], call: Callable[[], Call], **options: Any) -> None:
        self.plain, wrapped = seeded(make), seeded(make)
        torch.manual_seed(99)
        self.args, self.kwargs = call()
        self.module = RefitModule(wrapped, **options)
        assert self.module is wrapped

    def both(self, action: Callable[[nn.Module], object]) -> None:
        """Does the same to both, with the same random numbers."""
        for module in (self.plain, self.module):
            torch.manual_seed(7)
            action(module)

    def add(self, name: str, rank: int = 4, seed: int = 0, **config: Any) -> None:
        for module in (self.plain, self.module):
            torch.manual_seed(1000 + seed)
            module.add_adapter(
                LoraConfig(**{"r": rank, "lora_alpha": 2 * rank, "target_modules": TARGETS, "init_lora_weights": False, **config}), name
            )

    @torch.no_grad()
    def answers(self) -> tuple[torch.Tensor, torch.Tensor]:
        return output(self.module(*self.args, **self.kwargs)), output(self.plain(*self.args, **self.kwargs))

    def check(self, limit: float = 1e-3, *, served: str = "engine") -> torch.Tensor:
        """The module's answer, after it was compared with the twin's."""
        got, expected = self.answers()
        error = float((got - expected).norm() / expected.norm())
        assert error < limit, f"differs by {error:.2e}"
        assert self.module.served_by == served if served == "engine" else self.module.served_by.startswith(served)
        return got.clone()
