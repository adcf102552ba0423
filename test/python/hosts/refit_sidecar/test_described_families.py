"""Every family that the torch host serves without a graph, as diffusers' own class, called as diffusers' own pipeline calls it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from pairs import Pair
from small_models import Call
from torch import nn

ROOT = Path(__file__).resolve().parents[4]
sys.path[:0] = [str(ROOT / path) for path in ("test/python/hosts", "test/python/hosts/refit_graphs")]
from diffusers_calls import CALLS  # noqa: E402
from family_structures import STRUCTURES, with_the_rest_later  # noqa: E402
from refit_host.models.registry import spec_of  # noqa: E402
from step_inputs import inputs_of, words_of  # noqa: E402


class _Recorded(Exception):
    pass


class _Recorder:
    """Stands where the module stands in a pipeline, and keeps what it was called with."""

    def __init__(self, config: Any) -> None:
        self.config = config

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        self.call = args, kwargs
        raise _Recorded

    def __getattr__(self, name: str) -> Any:
        return getattr(self.config, name)


def make(name: str) -> nn.Module:
    built = spec_of(STRUCTURES[name]()).build()
    # The class itself: the host's own has other ways through some of its parts.
    return type(built).from_config(dict(built.config))


def call(name: str) -> Call:
    spec = spec_of(STRUCTURES[name]())
    recorder = _Recorder(spec.build().config)
    with pytest.raises(_Recorded):
        # Words as the encoder gives them, where the plain class makes a run's words itself.
        CALLS[spec.family](recorder, {**inputs_of(spec, batch=1), **words_of(spec)})
    return recorder.call


def _targets(module: nn.Module) -> list[str]:
    """Every fifth matrix of the repeated blocks."""
    found = [name for name, each in module.named_modules() if isinstance(each, nn.Linear) and "." in name and min(each.weight.shape) > 8]
    return found[::5]


@pytest.mark.parametrize(
    "name", with_the_rest_later("z-image", "qwen-image", "wan21-i2v", "ltx2", "hunyuan-video", "hidream", "minimax-h3", "chroma")
)
def test_a_family_follows_its_adapters_and_comes_back_bit_for_bit(name):
    pair = Pair(lambda: make(name), lambda: call(name))
    targets = _targets(pair.plain)
    base = pair.check()
    pair.add("a", target_modules=targets)
    with_a = pair.check()
    assert not torch.equal(with_a, base)
    pair.add("b", rank=2, seed=1, target_modules=targets[1:])
    pair.both(lambda module: module.set_adapters(["a", "b"], [0.7, -0.4]))
    pair.check()
    pair.both(lambda module: module.set_adapters(["a"], [1.0]))
    assert torch.equal(pair.check(), with_a)
    pair.both(lambda module: module.disable_lora())
    assert torch.equal(pair.check(), base)
    assert pair.module.counts["builds"] == 1 and pair.module.counts["original"] == 0
