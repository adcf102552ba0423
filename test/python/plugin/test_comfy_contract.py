"""What the plugin relies on in ComfyUI is on a record; the record is checked against a real checkout where there is one."""

import json
import os
from pathlib import Path

import comfy_api
import pytest

RECORD = json.loads(Path(__file__).with_name("comfy_api.json").read_text("utf-8"))


def test_every_comfyui_name_that_the_plugin_uses_is_recorded():
    assert comfy_api.used() == set(RECORD["names"]), "run test/python/plugin/comfy_api.py to record it anew, and look at what changed"
    assert None not in RECORD["names"].values()


@pytest.fixture(scope="module")
def source():
    given = os.environ.get("COMFYUI_DIR")
    if not given:
        pytest.skip("COMFYUI_DIR is not set: point it at a ComfyUI checkout to compare the recorded API with its source")
    return comfy_api.Source(Path(given))


def compatible(recorded: object, found: object) -> bool:
    """Every recorded parameter is still there, in the same order; new ones may have come."""
    if not isinstance(recorded, list):
        return found is not None
    if not isinstance(found, list):
        return False
    rest = iter(found)
    return all(any(name == other for other in rest) for name in recorded)


@pytest.mark.parametrize("name", sorted(RECORD["names"]))
def test_the_checkout_has_the_recorded_name(source, name):
    assert compatible(RECORD["names"][name], source.describe(name)), f"{name}: recorded {RECORD['names'][name]}, found {source.describe(name)}"


@pytest.mark.parametrize("owner", sorted(RECORD["attributes"]))
def test_the_checkout_has_the_recorded_attributes(source, owner):
    assert set(RECORD["attributes"][owner]) <= source.attributes(owner)


@pytest.mark.parametrize("owner", sorted(RECORD["methods"]))
def test_the_checkout_has_the_recorded_methods(source, owner):
    for method, recorded in RECORD["methods"][owner].items():
        assert compatible(recorded, source.method(owner, method)), f"{owner}.{method}"
