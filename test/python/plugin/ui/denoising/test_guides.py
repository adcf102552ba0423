"""Guides of a video, from a call's arguments to an engine's inputs."""

from __future__ import annotations

import pytest
import torch
from refit_sidecar_plugin.ui.denoising import calls

FRAMES, ROWS, COLUMNS = 4, 2, 3
EACH = ROWS * COLUMNS
VIDEO = FRAMES * EACH


def call(**given):
    x = torch.zeros(1, 128, FRAMES, ROWS, COLUMNS)
    args = (x, torch.zeros(1), torch.zeros(1, 5, 48), None, 25.0, {})
    return calls.read_call(calls.call_shape("comfyui", "LTXV"), args, given, {})


def entry(count: int = EACH, strength: float = 1.0, **more) -> dict:
    return {"pre_filter_count": count, "strength": strength, "pixel_mask": None, "latent_shape": [1, ROWS, COLUMNS], **more}


def mask(*away: int) -> torch.Tensor:
    out = torch.ones(1, 1, VIDEO)
    out[..., list(away)] = -0.4
    return out.reshape(1, 1, FRAMES, ROWS, COLUMNS)


PLACES = torch.arange(3 * EACH * 2).reshape(1, 3, EACH, 2)


def test_a_guide_sends_its_places_alone_where_all_is_seen_and_looked_at():
    for more in ({}, {"denoise_mask": mask()}, {"denoise_mask": torch.ones(1, 1, FRAMES, 1, 1), "guide_attention_entries": [entry()]}):
        tensors = call(keyframe_idxs=PLACES, **more).tensors
        assert torch.equal(tensors["guide_places"], PLACES.float()) and tensors["guide_places"].dtype is torch.float32
        assert not {"kept_cells", "guide_weights"} & tensors.keys()


def test_places_that_are_beginnings_alone_are_those_of_comfyui_0_3_64():
    sent = call(keyframe_idxs=PLACES[..., 0]).tensors["guide_places"]
    assert torch.equal(sent[..., 0], PLACES[..., 0].float()) and torch.equal(sent[..., 1], sent[..., 0])


def test_cells_with_a_negative_mask_are_left_out_with_their_places_and_weights():
    away = (VIDEO - 1, VIDEO - 3)
    given = call(keyframe_idxs=PLACES, denoise_mask=mask(*away), guide_attention_entries=[entry(strength=0.5)])
    seen = [number for number in range(EACH) if VIDEO - EACH + number not in away]
    assert given.tensors["kept_cells"].tolist() == [[number for number in range(VIDEO) if number not in away]]
    assert torch.equal(given.tensors["guide_places"], PLACES[:, :, seen].float())
    assert given.tensors["guide_weights"].tolist() == [[0.5] * len(seen)]
    assert {"guide_places", "kept_cells", "guide_weights"} <= given.once & given.optional


def test_every_guide_has_a_weight_of_its_own_and_a_mask_in_pixels_says_where():
    half = torch.zeros(1, 1, 1, 64, 96)
    half[..., :32, :] = 1
    entries = [entry(strength=0.8), entry(pixel_mask=half)]
    tensors = call(keyframe_idxs=torch.cat([PLACES, PLACES + 9], dim=2), guide_attention_entries=entries).tensors
    assert torch.allclose(tensors["guide_weights"], torch.tensor([[0.8] * EACH + [1.0] * COLUMNS + [0.0] * COLUMNS]))


@pytest.mark.parametrize(
    ("frames", "cells", "expected"),
    [
        (9, 2, [0.0, 4.5]),
        (17, 3, [0.0, 4.5, 12.5]),
        (1, 3, [0.0, 0.0, 0.0]),
        (10, 3, [0.0, 2.5, 6.5]),
        (2, 3, [0.0, 1.0, 1.0]),
        (9, 1, [0.0]),
    ],
)
def test_a_mask_of_several_frames_counts_the_first_alone_and_the_others_evenly(frames, cells, expected):
    pixels = torch.arange(frames, dtype=torch.float32)[None, None, :, None, None].expand(1, 1, frames, 32, 32)
    one = {**entry(cells, pixel_mask=pixels), "latent_shape": [cells, 1, 1]}
    tensors = call(keyframe_idxs=torch.zeros(1, 3, cells, 2), guide_attention_entries=[one]).tensors
    assert tensors["guide_weights"].tolist() == [expected]


def test_what_no_guide_has_is_no_input_and_what_does_not_fit_is_refused():
    assert (
        not {"guide_places", "guide_weights"} & call(keyframe_idxs=None, guide_attention_entries=None, denoise_mask=mask()).tensors.keys()
    )
    assert "guide_places" not in call(keyframe_idxs=PLACES[:, :, :0], guide_attention_entries=[]).tensors
    # None of a guide's cells is seen.
    away = tuple(range(VIDEO - EACH, VIDEO))
    gone = call(keyframe_idxs=PLACES, denoise_mask=mask(*away), guide_attention_entries=[entry(strength=0.5)]).tensors
    assert gone["kept_cells"].shape == (1, VIDEO - EACH) and not {"guide_places", "guide_weights"} & gone.keys()
    with pytest.raises(calls.NotServed, match="another size"):
        call(keyframe_idxs=PLACES, guide_attention_entries=[entry(EACH - 1)])
    with pytest.raises(calls.NotServed, match="generated_keyframes"):
        call(generated_keyframes={"num_keyframes": 1})
