"""Compilation in the background beside a user who changes LoRAs: a refit never counts as a wrong compilation, a wrong one is refused and told.

Streams and the compiler are stand-ins.
"""

from __future__ import annotations

import contextlib
import threading
from types import SimpleNamespace

import pytest
import torch
from refit_host.torch_engine import builder as building
from refit_host.torch_engine.builder import Builder
from refit_host.weights.writes import Writes

WAIT = 20
INPUTS = {"sample": torch.ones(2, 8)}


class Stream:
    def __init__(self, *_) -> None: ...

    def synchronize(self) -> None: ...


class Code:
    saved = 0

    def load(self) -> bool:
        return False

    def save(self) -> None:
        self.saved += 1


class Live:
    """Weights that a refit changes, and a module over them; `off`: what the compiled module adds, 0 where the compiler did its work."""

    def __init__(self) -> None:
        self.value, self.writes, self.off = 1.0, Writes(), 0.0
        self.before_forward = lambda module: None

    def refit(self) -> None:
        with self.writes.writing():
            self.value *= 1.5

    def forward(self, module, inputs):
        self.before_forward(module)
        return inputs["sample"] * self.value + (self.off if module.compiled else 0.0)


def built(live: Live, monkeypatch, compiling=lambda: None, repeated=("Block", "Res"), rested=lambda: 60.0):
    monkeypatch.setattr(building, "yield_processor", lambda: None)
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda _: contextlib.nullcontext())

    def compile_blocks(module, classes):
        compiling()
        module.compiled = True

    monkeypatch.setattr(building, "compile_blocks", compile_blocks)
    told, ended, code = [], threading.Event(), Code()
    spec = SimpleNamespace(repeated=repeated, forward=live.forward)
    builder = Builder(
        spec,
        lambda: SimpleNamespace(compiled=False),
        torch.device("cpu"),
        code,
        writes=live.writes,
        told=lambda: told.append(builder.refusals),
        rested=rested,
    )
    assert builder.module_for(INPUTS) is None
    for _ in range(WAIT * 100):
        if not builder.busy:
            break
        ended.wait(0.01)
    assert not builder.busy
    builder.close()
    return builder, told, code


def test_a_refit_while_the_compiler_works_refuses_nothing(monkeypatch):
    live = Live()
    builder, told, code = built(live, monkeypatch, compiling=live.refit)
    assert builder.module_for(INPUTS).compiled
    assert builder.refusals == [] and told == [[], []] and code.saved == 1


def test_a_refit_between_the_two_outputs_makes_them_again(monkeypatch):
    live = Live()
    left = [1, 1]

    def between(module):
        if module.compiled and left:
            left.pop()
            live.refit()

    live.before_forward = between
    builder, _, _ = built(live, monkeypatch)
    assert builder.module_for(INPUTS).compiled and builder.refusals == []


def test_under_refits_without_end_one_waits_for_the_comparison(monkeypatch):
    live = Live()
    waited = []

    def always(module):
        if not module.compiled:
            return
        if live.writes._lock.locked():
            waited.append(True)
        else:
            live.refit()

    live.before_forward = always
    builder, _, _ = built(live, monkeypatch)
    assert builder.module_for(INPUTS).compiled and waited and builder.refusals == []


def test_a_wrong_output_is_refused_by_name_and_told(monkeypatch, caplog):
    live = Live()
    live.off = 1.0
    builder, told, code = built(live, monkeypatch)
    assert builder.module_for(INPUTS) is None
    assert [row["steps"] for row in builder.refusals] == ["batch 2 and more"]
    assert "differs by" in builder.refusals[0]["reason"]
    assert told == [builder.refusals] and code.saved == 0
    assert [record.levelname for record in caplog.records if "stay uncompiled" in record.message] == ["WARNING"]


def test_a_wrong_output_is_refused_though_refits_come_all_the_time(monkeypatch):
    live = Live()
    live.off = 1.0

    def always(module):
        if module.compiled and not live.writes._lock.locked():
            live.refit()

    live.before_forward = always
    builder, _, _ = built(live, monkeypatch)
    assert builder.module_for(INPUTS) is None and len(builder.refusals) == 1


@pytest.mark.parametrize("failure", [RuntimeError("no such kernel\nsecond line"), ValueError("")])
def test_a_compiler_that_fails_is_told_in_one_line(monkeypatch, failure):
    live = Live()

    def fails():
        raise failure

    builder, told, _ = built(live, monkeypatch, compiling=fails)
    assert "second line" not in builder.refusals[0]["reason"] and told == [builder.refusals]


def test_each_stage_waits_until_no_step_came_for_a_while(monkeypatch):
    live, seconds, began = Live(), iter([0.05, 0.3, 1.0, 2.0, 0.1, 9.0]), []
    monkeypatch.setattr(building, "LOOK_AGAIN", 0.001)
    builder, _, _ = built(live, monkeypatch, compiling=lambda: began.append(True), rested=lambda: next(seconds))
    assert builder.module_for(INPUTS).compiled and len(began) == 2 and next(seconds, None) is None


def test_under_steps_without_end_it_compiles_after_the_longest_wait(monkeypatch):
    monkeypatch.setattr(building, "LONGEST_WAIT", 0.01)
    monkeypatch.setattr(building, "LOOK_AGAIN", 0.001)
    builder, _, _ = built(Live(), monkeypatch, rested=lambda: 0.0)
    assert builder.module_for(INPUTS).compiled
