"""What the plugin takes from ComfyUI, name by name and call by call, against the recorded facts of every version that it is made for.

The next version is recorded from its source (comfy_api.py); what changed for the plugin is then the difference of two files.
"""

import json
import os
from pathlib import Path

import comfy_api
import pytest

FILES = sorted(comfy_api.RECORDS.glob("comfyui-*.json"))
VERSIONS = {path.stem.removeprefix("comfyui-"): json.loads(path.read_text("utf-8")) for path in FILES}
AGAIN = "run test/python/plugin/ui/comfyui/comfy_api.py on that version, and look at what changed"


def test_both_supported_versions_are_on_record():
    assert set(VERSIONS) >= {"0.3.64", "0.33.0"}


def numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(".")]


def version(recorded: dict) -> list[int]:
    return numbers(recorded["version"])


@pytest.fixture(params=sorted(VERSIONS))
def recorded(request):
    return VERSIONS[request.param]


def test_every_name_that_the_plugin_uses_is_there(recorded):
    assert comfy_api.used() == set(recorded["names"]), AGAIN
    assert [name for name, described in recorded["names"].items() if described is None] == []


def test_every_attribute_that_the_plugin_takes_from_an_object_is_there(recorded):
    for owner, wanted in comfy_api.used_attributes().items():
        known = recorded["attributes"][owner]
        assert wanted == set(known), f"{owner}: {AGAIN}"
        newer = {name for name, since in comfy_api.NEWER.get(owner, {}).items() if version(recorded) < numbers(since)}
        assert {name for name, there in known.items() if not there} == newer, owner


def test_every_call_fits_the_recorded_parameters(recorded):
    for site in comfy_api.calls():
        if site.method:
            owner, name = site.target.rsplit(".", 1)
            parameters = recorded["methods"][owner][name]
        else:
            parameters = recorded["names"][site.target]
        if site.method and version(recorded) < numbers(comfy_api.NEWER.get(owner, {}).get(name, "0")):
            continue
        if isinstance(parameters, list):
            assert comfy_api.binds(parameters, site), f"{site.where}: {site.target} takes {parameters}"
        else:
            # A class that brings no __init__ of its own, a value that is called, an attribute that holds a function.
            assert parameters is True or site.method, f"{site.where}: {site.target}"


def test_what_the_plugin_takes_the_place_of_has_the_same_parameters_as_here(recorded):
    for owner, names in comfy_api.OVERRIDDEN.items():
        assert all(recorded["methods"][owner][name] is not None for name in names), owner
    methods = recorded["methods"]["comfy.model_patcher.ModelPatcher"]
    assert methods["partially_load"][:4] == ["self", "device_to", "extra_memory=", "force_patch_weights="]
    assert methods["get_key_patches"] == ["self", "filter_prefix="]


@pytest.mark.parametrize(
    ("parameters", "positional", "keywords", "fits"),
    [
        (["self", "a", "b="], 1, (), True),
        (["self", "a", "b="], 0, (), False),
        (["self", "a", "b="], 3, (), False),
        (["self", "a", "b="], 1, ("c",), False),
        (["self", "a", "**"], 1, ("c",), True),
        (["self", "a", "!c"], 2, (), False),
        (["self", "a", "!c"], 1, ("c",), True),
        (["self", "*"], 5, (), True),
    ],
)
def test_the_check_itself_tells_calls_that_fit_from_others(parameters, positional, keywords, fits):
    assert comfy_api.binds(parameters, comfy_api.CallSite("x", True, positional, keywords, "")) is fits


def test_the_checkout_is_as_recorded():
    given = os.environ.get("COMFYUI_DIR")
    if not given:
        pytest.skip("COMFYUI_DIR is not set: point it at a ComfyUI checkout to compare the recorded facts with its source")
    found = comfy_api.record(Path(given))
    assert found == VERSIONS.get(found["version"]), AGAIN
