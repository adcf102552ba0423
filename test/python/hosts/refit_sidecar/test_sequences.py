"""Random sequences of LoRA calls, compared with the plain module after every call; at the end everything is taken back."""

import os
import random

import pytest
import torch
from pairs import Pair
from small_models import sd15, sd15_call

# Each sequence compares after every step. All 200: REFIT_SEQUENCES=200.
SEQUENCES = int(os.environ.get("REFIT_SEQUENCES", "10"))
PER_PAIR = 10
STEPS = 3


def _actions(rng: random.Random, pair: Pair, known: list[str]):
    strength = round(rng.uniform(-1.2, 1.5), 2)
    some = rng.sample(known, rng.randint(1, len(known)))
    layer = rng.choice(["conv_in", "conv_out", "time_embedding.linear_1"])

    def scale_weight(module):
        with torch.no_grad():
            module.get_submodule(layer).bias.mul_(1.01)

    def fuse_once(module):
        module.set_adapters(some[:1], [strength])
        module.fuse_lora(0.5)
        module.unfuse_lora()

    return rng.choice([
        lambda: pair.both(lambda module: module.set_adapters(some, [strength] * len(some))),
        lambda: pair.both(lambda module: module.set_adapters(some, [strength / (1 + index) for index in range(len(some))])),
        lambda: pair.both(lambda module: module.disable_adapters()),
        lambda: pair.both(lambda module: module.enable_adapters()),
        lambda: pair.both(scale_weight),
        lambda: pair.both(fuse_once),
    ])  # fmt: skip


@pytest.mark.parametrize("part", range(SEQUENCES // PER_PAIR))
def test_random_sequences(part):
    rng = random.Random(part)
    pair = Pair(sd15, sd15_call)
    base = pair.check()
    names = ["a", "b", "c"]
    for index, name in enumerate(names):
        pair.add(name, rank=2 + index, seed=index, target_modules=r".*mid_block.*(to_q|to_v|conv1)$")
    pair.both(lambda module: module.disable_adapters())
    assert torch.equal(pair.check(), base)
    for _ in range(PER_PAIR):
        for _ in range(STEPS):
            _actions(rng, pair, names)()
            pair.check()
    pair.both(lambda module: module.delete_adapters(names))
    pair.check()
    assert pair.module.counts["original"] == 0 and pair.module.counts["builds"] == 1
