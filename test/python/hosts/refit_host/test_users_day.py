"""A host process in the order of a user's day: a second load, a second engine, a load that fails, a refit in the middle of everything."""

from __future__ import annotations

import gc
import importlib
import pkgutil
import sys
import weakref

import pytest
import refit_graphs
import refit_host
import torch
from engines import CPU, UNET
from exported_cases import step_inputs
from refit_graphs.families import plan
from refit_host.failure import HostFailure
from refit_host.torch_engine import model
from transformer_structures import flux
from users_day import Day

from bench.gpu import data

# A minute or more on two cores: with the long tests.
pytestmark = pytest.mark.e2e

FLUX = flux()


def test_flux_serves_with_fused_blocks_whatever_was_loaded_before(tmp_path, monkeypatch):
    """The second engine of a process, the same one again, in another precision, and after an unload."""
    day = Day(tmp_path, monkeypatch)
    day.load("unet", UNET)
    for name, dtype in (("flux", "f32"), ("flux#again", "bf16"), ("flux#fp8", "fp8")):
        day.load(name, FLUX, dtype)
        assert day.status(name)["placement"]["tier"] == "fused blocks in CUDA graphs"
        assert day.step(name, step_inputs(plan(dict(FLUX))))[1]
        day.call("unload", {"engine": name})
    day.load("flux", FLUX)
    assert day.status("flux")["placement"]["tier"] == "fused blocks in CUDA graphs"


def test_a_unet_serves_with_fused_blocks_at_once_and_nothing_compiles(tmp_path, monkeypatch):
    day = Day(tmp_path, monkeypatch, compiling=lambda: pytest.fail("it compiles"))
    for name, dtype in (("unet", "f32"), ("unet#fp8", "fp8")):
        day.load(name, UNET, dtype)
        assert day.step(name, step_inputs(plan(dict(UNET)), residuals=True))[1]
        placement = day.status(name)["placement"]
        assert placement["tier"] == "fused blocks in CUDA graphs" and placement["refused"] == [] and not placement["compiling"]


@pytest.mark.parametrize("package", [refit_host, refit_graphs])
def test_no_package_gives_a_name_that_one_of_its_submodules_has_too(package):
    """`from package import name` would give the one or the other, depending on what was imported before."""
    for info in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if info.ispkg:
            module = importlib.import_module(info.name)
            submodules = {item.name for item in pkgutil.iter_modules(module.__path__)}
            shadowed = [name for name, value in vars(module).items() if name in submodules and not isinstance(value, type(sys))]
            assert shadowed == [], info.name


def test_the_host_tells_how_an_engine_serves_after_its_load_and_when_a_tier_takes_over(tmp_path, monkeypatch):
    day = Day(tmp_path, monkeypatch, fuses=False)
    day.load("unet", UNET)
    assert [(method, params["engine"], params["placement"]["tier"]) for method, params in day.notified] == [("serving", "unet", "eager")]
    day.step("unet", step_inputs(plan(dict(UNET))))
    day.settled("unet")
    assert day.notified[-1][1]["placement"]["tier"] == "compiled blocks in CUDA graphs, stage 2 of 2"
    day.load("flux", FLUX, "fp8")
    assert day.notified[-1][1]["quantised"]["format"] == "fp8" and day.notified[-1][1]["placement"]["refused"] == []


def test_a_refit_while_an_engine_compiles_does_not_keep_it_from_its_tier(tmp_path, monkeypatch):
    day = Day(tmp_path, monkeypatch, compiling=lambda: refit(day), fuses=False)
    refits = []

    def refit(day):
        # As a commit of another stack: every value written anew, to others.
        weights = day.host._engines["unet"].weights
        with weights.writes.writing():
            for slot in weights.layout.slots[:40]:
                slot.view(weights.live).mul_(1.1)
        refits.append(True)

    day.load("unet", UNET)
    day.step("unet", step_inputs(plan(dict(UNET))))
    placement = day.settled("unet")
    assert len(refits) == 2
    assert placement["tier"].startswith("compiled blocks") and placement["refused"] == []


@pytest.mark.parametrize("at", ["model", "weights", "memory"])
def test_a_load_that_fails_leaves_nothing_behind(tmp_path, monkeypatch, at):
    """Seven prompts that failed once held 106 GB."""
    day = Day(tmp_path, monkeypatch)
    held: list[weakref.ref] = []
    original = model.TorchModel.__init__

    def failing(self, spec, placed, *rest):
        original(self, spec, placed, *rest)
        held.append(weakref.ref(placed.weights.live.untyped_storage()))
        held.append(weakref.ref(self))
        if at == "model":
            raise TypeError("'module' object is not callable")
        if at == "memory":
            raise torch.OutOfMemoryError("Tried to allocate 2.00 GiB")

    monkeypatch.setattr(model.TorchModel, "__init__", failing)
    if at == "weights":
        monkeypatch.setattr(
            "refit_host.host.engine.Engine.images",
            lambda *_: (_ for _ in ()).throw(HostFailure("HOST_FILE_CHANGED", "the delta file changed")),
        )
    gc.disable()
    try:
        for name in ("one", "two", "three"):
            # As the server keeps it while it answers.
            with pytest.raises((TypeError, HostFailure, torch.OutOfMemoryError)) as failure:
                day.load(name, UNET)
            assert [item() for item in held] == [None] * len(held)
            assert str(failure.value)
    finally:
        gc.enable()
    monkeypatch.setattr(model.TorchModel, "__init__", original)
    monkeypatch.undo()
    assert day.host._engines == {} and day.host._loading == set()


def test_another_checkpoint_gives_the_memory_of_the_one_before_back_and_a_lora_does_not(tmp_path, monkeypatch):
    day = Day(tmp_path, monkeypatch)
    day.load("unet", UNET)
    given = []
    monkeypatch.setattr(day.host, "_return_memory", lambda: given.append(True))
    names = [slot.name for slot in day.host._engines["unet"].weights.layout.slots]

    def refit(generation: int, checkpoint: dict | None) -> None:
        weights = {"checkpoint": "c", "stack": []}
        full = checkpoint is not None
        wanted = {
            "from": None if full else weights,
            "to": weights,
            "full": full,
            "writes": [{"parameter": name} for name in (names if full else [])],
        }
        prepared = day.call("prepare", {"engine": "unet", "generation": generation, "plan": wanted, "checkpoint": checkpoint, "stack": []})[
            0
        ]
        day.call("commit", {"engine": "unet", "token": prepared["token"]})

    refit(1, None)
    assert given == []
    old = weakref.ref(day.host._engines["unet"].weights.base)
    refit(2, data.checkpoint_record(tmp_path / "unet", UNET, CPU, 1))
    assert given == [True] and old() is None
