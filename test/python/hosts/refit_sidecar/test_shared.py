"""A module whose engine is a running sidecar's: a real sidecar process with the torch host, its answers against the plain module's."""

import shutil
import sys
import threading

import pytest
import torch
from conforming import CONFORMING
from pairs import Pair
from peft import LoHaConfig, inject_adapter_in_model
from refit_sidecar import RefitModule, State
from small_models import FAMILIES, seeded

ROOT = __import__("pathlib").Path(__file__).resolve().parents[4]
sys.path[:0] = [str(ROOT / path) for path in ("plugin", "test/python/served")]
from served_sidecar import Sidecar  # noqa: E402


def start(folder):
    if shutil.which("node") is None or not (ROOT / "sidecar/dist/src/main.js").exists():
        pytest.skip("the sidecar is not built, or there is no node on PATH (npm run build)")
    for name in ("checkpoints", "loras"):
        (folder / name).mkdir(exist_ok=True)
    shutil.rmtree(folder / "data", ignore_errors=True)
    return Sidecar(folder, "--host", "torch", "--precision", "fp32", "--python", sys.executable)


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory):
    made = start(tmp_path_factory.mktemp("shared"))
    yield made
    made.stop()


def pair_of(sidecar, family="sd15"):
    return Pair(*CONFORMING[family], host="sidecar", sidecar_data_dir=sidecar.data)


@pytest.mark.parametrize("family", [name if name == "flux" else pytest.param(name, marks=pytest.mark.e2e) for name in CONFORMING])
def test_a_running_sidecar_serves_it(sidecar, family):
    pair = pair_of(sidecar, family)
    base = pair.check()
    assert pair.module.tier == "a running sidecar (torch, fp32)" and pair.module.state is State.LIVE
    pair.add("a")
    with_a = pair.check()
    assert not torch.equal(with_a, base) and pair.module.last_refit.adapters == ("a",)
    pair.add("b", rank=2, seed=1)
    pair.both(lambda module: module.set_adapters(["a", "b"], [0.7, -0.4]))
    assert pair.module.state is State.NEEDS_REFIT
    pair.check()
    pair.both(lambda module: module.set_adapters(["a"], [1.0]))
    assert torch.equal(pair.check(), with_a)
    with pair.module.adapters(b=0.5):
        pair.plain.set_adapters(["b"], [0.5])
        pair.check()
    pair.both(lambda module: module.disable_lora())
    assert torch.equal(pair.check(), base)
    pair.both(lambda module: module.delete_adapters(["a", "b"]))
    assert torch.equal(pair.check(), base)
    assert pair.module.counts["original"] == 0 and pair.module.counts["builds"] == 1


def _write(module):
    with torch.no_grad():
        for value in list(module.parameters())[:6]:
            value.mul_(1.1)


def _back(module):
    with torch.no_grad():
        for name, value in list(module.named_parameters())[:6]:
            value.copy_(module.kept[name])


@pytest.mark.e2e
def test_other_changes_travel_as_changed_parameters(sidecar):
    pair = pair_of(sidecar)
    for module in (pair.plain, pair.module):
        module.__dict__["kept"] = {name: value.detach().clone() for name, value in module.named_parameters()}
    base = pair.check()
    files = list(pair.module._refit._weights._lease.folder.iterdir())
    pair.both(_write)
    pair.check()
    assert len(pair.module.last_refit.written) == 6
    pair.both(lambda module: inject_adapter_in_model(LoHaConfig(r=4, alpha=4, target_modules=["to_q"], init_weights=False), module, "h"))
    pair.check()
    assert list(pair.module._refit._weights._lease.folder.iterdir()) == files
    # Neither a weight nor a bias by its name: the whole goes anew.
    pair = pair_of(sidecar, "wan")
    pair.check()
    pair.both(_write)
    pair.check()
    assert "scale_shift_table" in pair.module.last_refit.written
    pair = pair_of(sidecar)
    pair.both(lambda module: module.load_state_dict({name: value * 1.05 for name, value in module.state_dict().items()}))
    assert not torch.equal(pair.check(), base)
    pair.add("d", use_dora=True)
    pair.check()


@pytest.mark.e2e
def test_a_fused_adapter_and_the_way_back(sidecar):
    pair = pair_of(sidecar)
    pair.add("a")
    pair.both(lambda module: module.disable_lora())
    base = pair.check()
    pair.both(lambda module: (module.enable_lora(), module.fuse_lora(0.6)))
    pair.check()
    pair.both(lambda module: (module.unfuse_lora(), module.disable_lora()))
    # PEFT's own way back is not exact; the engine follows it all the same.
    assert torch.allclose(pair.check(), base, atol=1e-5)


def test_what_a_sidecar_would_compute_otherwise_stays_itself(sidecar):
    # Heads of another size than published models have: names and shapes do not tell.
    pair = Pair(*FAMILIES["wan"], host="sidecar", sidecar_data_dir=sidecar.data)
    pair.check(served="original: the sidecar's engine computes another model than this one")
    pair.check(served="original: the sidecar's engine computes another model than this one")
    pair = Pair(*FAMILIES["qwen-image"], host="sidecar", sidecar_data_dir=sidecar.data)
    pair.check(served="original: a running sidecar has no steps for QwenImageTransformer2DModel")
    pair = pair_of(sidecar, "flux")
    pair.kwargs["img_ids"] = pair.kwargs["img_ids"].flip(0)
    pair.check(served="original: positions of more than one picture")


def test_without_a_sidecar_the_original_answers(tmp_path):
    pair = Pair(*CONFORMING["flux"], inprocess=False, sidecar_data_dir=tmp_path)
    pair.check(served="original: no sidecar can be reached (CLIENT_NOT_RUNNING); start one with `refit-sidecar serve`")
    with pytest.raises(ValueError, match="say different things"):
        RefitModule(seeded(CONFORMING["flux"][0]), inprocess=False, host="inprocess")
    with pytest.raises(ValueError, match="inprocess: expected True or False"):
        RefitModule(seeded(CONFORMING["flux"][0]), inprocess="no")


def test_a_sidecar_killed_in_the_middle(tmp_path):
    running = start(tmp_path)
    try:
        pair = pair_of(running, "flux")
        pair.add("a")
        with_a = pair.check()
        # Killed while calls go on: each of them is right, whoever answers.
        killer = threading.Timer(0.2, running.process.kill)
        killer.start()
        for _ in range(400):
            got, expected = pair.answers()
            assert float((got - expected).norm() / expected.norm()) < 1e-3
            if pair.module.served_by != "engine":
                break
        killer.join()
        pair.check(served="original: the sidecar does not serve it")
        pair.both(lambda module: module.set_adapters(["a"], [0.5]))
        pair.check(served="original")
        running.process.wait()
        running.log.close()
        running = start(tmp_path)
        # Another sidecar, which knows nothing: the checkpoint and the adapter go there again.
        for _ in range(20):
            got, expected = pair.answers()
            assert float((got - expected).norm() / expected.norm()) < 1e-3
            if pair.module.served_by == "engine":
                break
            threading.Event().wait(0.2)
        pair.check()
        pair.both(lambda module: module.set_adapters(["a"], [1.0]))
        assert torch.equal(pair.check(), with_a)
    finally:
        running.stop()
