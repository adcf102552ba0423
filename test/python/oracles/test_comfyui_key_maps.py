"""Our key maps against a real ComfyUI's, name by name and in its order: where a file has two names for one target, the later one counts.

COMFYUI_DIR (0.33 or newer) and COMFYUI_PYTHON name it. `REFIT_RECORD=1` writes what the tests of every day compare with: test/golden2/keymap-order.json.gz.
"""

from __future__ import annotations

import gzip
import json
import os
import re
from collections import defaultdict
from pathlib import Path

import pytest
from oracle_comfyui import needs_comfyui, run_by_comfyui
from oracle_node import names as ours

TESTS = Path(__file__).resolve().parents[2]
HEADERS = TESTS / "golden/headers"
RECORD = TESTS / "golden2/keymap-order.json.gz"
FAMILY = {
    "sd15": "sd15",
    "sdxl": "sdxl",
    "sdxl-refiner": "sdxl-refiner",
    "sd3-medium": "sd3",
    "sd35-large": "sd3",
    "flux-dev": "flux",
    "flux-schnell": "flux",
}
# Of what they hold, one name or the other is there: the release that ComfyUI was made for decides. Both are in our map.
RENAMED = re.compile(r"(query|key)_norm\.(scale|weight)$")
# Parts of Lumina 2's keys and values that ComfyUI takes as thirds of a weight that has none (it fails on them).
UNEQUAL = re.compile(r"attention[._]to_[kv]$|attn[._]to_[kv]$")
# Kept as sets by ComfyUI: the order of their names is another one in every process.
UNORDERED = re.compile(r"^label_emb\.")

pytestmark = needs_comfyui


def families() -> dict[str, str]:
    """Structure to family."""
    golden2 = json.loads((TESTS / "golden2/detect.json").read_text())
    return FAMILY | {name: entry["family"] for name, entry in golden2.items()}


@pytest.fixture(scope="module")
def comfyui() -> dict[str, list | None]:
    found = json.loads(run_by_comfyui(Path(__file__).with_name("comfyui_key_maps.py"), *families())[-1])
    if os.environ.get("REFIT_RECORD"):
        first = {
            name: [row for row in rows if not re.search(r"(blocks|layers)[._]([1-9]|\d\d)", row[1])] for name, rows in found.items() if rows
        }
        RECORD.write_bytes(gzip.compress(json.dumps(first, separators=(",", ":")).encode(), mtime=0))
    return found


def by_target(rows: list[list]) -> dict[tuple, list[str]]:
    out = defaultdict(list)
    for name, parameter, part, swap in rows:
        out[RENAMED.sub(r"\1_norm", parameter), part, swap].append(name)
    return out


@pytest.mark.parametrize("structure", families())
def test_a_key_map_is_comfyuis_own(structure, comfyui):
    theirs = comfyui[structure]
    if theirs is None:
        pytest.skip(f"this ComfyUI does not know {structure}")
    family = families()[structure]
    shapes = json.loads(gzip.decompress((HEADERS / f"{structure}.json.gz").read_bytes()))
    known = ours(
        family,
        {key: shape for key, shape in shapes.items() if not key.startswith(("cond_stage_model.", "first_stage_model.", "conditioner."))},
    )
    rows = [
        [name, parameter, "" if length is None else f"{start},{length}", swap]
        for name, (parameter, start, length, swap) in known["map"].items()
        if not (family == "flux" and name.endswith("_norm.scale"))
    ]
    skip = family == "lumina2"
    mine, wanted = (by_target([row for row in all_rows if not (skip and UNEQUAL.search(row[0]))]) for all_rows in (rows, theirs))
    assert mine.keys() == wanted.keys()
    for target, spelled in wanted.items():
        assert sorted(mine[target]) == sorted(spelled), target
        assert mine[target] == spelled or UNORDERED.match(target[0]), target
