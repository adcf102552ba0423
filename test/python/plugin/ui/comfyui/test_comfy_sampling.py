"""What the sampler's loop needs while an engine answers: conditioning on the device, and a collector that leaves old objects alone."""

import gc
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")

import comfy_fakes  # noqa: E402
from comfy_fakes import Cond  # noqa: E402

comfy_fakes.install()

from refit_sidecar_plugin.ui.comfyui.collector import old_objects_rest  # noqa: E402
from refit_sidecar_plugin.ui.comfyui.sampling import steps_of  # noqa: E402

# A device that is not the processor, on every computer.
DEVICE = torch.device("meta")


@pytest.mark.parametrize("answered", [True, False])
def test_only_a_run_that_an_engine_answers_is_changed(answered):
    entry = {"model_conds": {"c_crossattn": Cond(torch.ones(1, 2, 8))}}
    guider = SimpleNamespace(conds={"positive": [entry]}, model_patcher=SimpleNamespace(load_device=DEVICE))
    seen = []

    def executor(owner, sigmas, **named):
        placed = owner.conds["positive"][0]["model_conds"]["c_crossattn"].cond.device.type
        seen.append((placed, gc.get_freeze_count() > 0, sigmas, named))
        return "latent"

    sample = steps_of(lambda owner: owner is guider and answered)
    assert sample(executor, guider, "sigmas", noise="noise") == "latent"
    assert seen == [("meta" if answered else "cpu", answered, "sigmas", {"noise": "noise"})]
    assert gc.get_freeze_count() == 0


def test_old_objects_are_looked_at_again_after_a_run_that_failed():
    with pytest.raises(KeyboardInterrupt), old_objects_rest():
        raise KeyboardInterrupt
    assert gc.get_freeze_count() == 0


def test_a_run_inside_another_leaves_the_outer_ones_end_to_it():
    with old_objects_rest():
        with old_objects_rest():
            pass
        assert gc.get_freeze_count() > 0
    assert gc.get_freeze_count() == 0


def test_circles_that_are_made_during_a_run_are_collected():
    class Circle:
        pass

    with old_objects_rest():
        one = Circle()
        one.itself = one
        gc.collect()
        del one
        assert gc.collect() > 0
