"""A run's conditioning goes to the device once."""

import pytest

torch = pytest.importorskip("torch")

import comfy_fakes  # noqa: E402
from comfy_fakes import Cond  # noqa: E402

comfy_fakes.install()

from refit_sidecar_plugin.ui.comfyui.conditioning import on_device  # noqa: E402

# A device that is not the processor, on every computer.
DEVICE = torch.device("meta")


class CrossAttention(Cond):
    pass


def entry(**conds):
    return {"model_conds": conds, "uuid": "one", "strength": 1.0}


def test_tensors_and_lists_of_them_move_and_keep_their_kind():
    given = {"positive": [entry(c_crossattn=CrossAttention(torch.ones(1, 77, 8)), ref_latents=Cond([torch.ones(1, 4), torch.ones(2)]))]}
    placed = on_device(given, DEVICE)["positive"][0]["model_conds"]
    assert type(placed["c_crossattn"]) is CrossAttention and placed["c_crossattn"].cond.device == DEVICE
    assert [one.device for one in placed["ref_latents"].cond] == [DEVICE, DEVICE]


def test_what_other_runs_of_the_prompt_share_stays_as_it_is():
    shared = CrossAttention(torch.ones(1, 77, 8))
    given = {"positive": [entry(c_crossattn=shared)], "negative": [entry(c_crossattn=shared)]}
    placed = on_device(given, DEVICE)
    assert shared.cond.device.type == "cpu" and given["positive"][0]["model_conds"]["c_crossattn"] is shared
    assert placed["negative"][0]["uuid"] == "one" and placed["negative"][0]["strength"] == 1.0


@pytest.mark.parametrize("value", [3.5, "index", None, (1, 2), [], [torch.ones(1), None]])
def test_what_is_no_tensor_is_handed_on(value):
    given = Cond(value)
    assert on_device({"positive": [entry(it=given)]}, DEVICE)["positive"][0]["model_conds"]["it"] is given


def test_an_entry_without_processed_conditioning_is_handed_on():
    bare = {"uuid": "one"}
    assert on_device({"positive": [bare], "negative": []}, DEVICE) == {"positive": [bare], "negative": []}
