"""What the plugin relies on in A1111, Forge, reForge and Forge Neo is on a record; the record is checked against a real checkout where there is one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

import webui_api  # noqa: E402
from refit_sidecar_plugin.ui.source_facts import compatible  # noqa: E402
from refit_sidecar_plugin.ui.webui import selfcheck  # noqa: E402
from ui_server import forge, forge_neo  # noqa: E402

UIS = sorted(json.loads(selfcheck.RECORDED.read_text("utf-8")))
RECORD = {ui: selfcheck.record_of(ui) for ui in UIS}


def everything(ui: str) -> list[tuple[str, str, object]]:
    """(folder, dotted name, what is recorded) of every name and method."""
    return list(selfcheck.everything(RECORD[ui]))


@pytest.mark.parametrize("ui", UIS)
def test_every_name_that_the_plugin_uses_is_recorded_and_was_there(ui):
    assert webui_api.used(ui) == set(RECORD[ui]["names"]), (
        "run test/python/plugin/ui/webui/webui_api.py to record it anew, and look at what changed"
    )
    assert [name for _, name, kind in everything(ui) if kind is None] == []


@pytest.fixture
def root(request) -> Path:
    variable = webui_api.VARIABLES[request.param]
    if not os.environ.get(variable):
        pytest.skip(f"{variable} is not set: point it at a checkout of {request.param} to compare the recorded API with its source")
    return Path(os.environ[variable])


@pytest.mark.parametrize(("ui", "root"), [(ui, ui) for ui in UIS], indirect=["root"], ids=UIS)
def test_the_checkout_has_the_recorded_names_with_their_parameters(ui, root):
    found = webui_api.record(ui, root)
    for folder, name, recorded in everything(ui):
        if folder == "" and name in found["names"]:
            now = found["names"][name]
        elif name in found["others"].get(folder, {}):
            now = found["others"][folder][name]
        else:
            owner, leaf = name.rsplit(".", 1)
            now = found["methods"][folder][owner][leaf]
        assert compatible(recorded, now), f"{name}: recorded {recorded}, found {now}"


@pytest.mark.parametrize(("ui", "root"), [(ui, ui) for ui in UIS], indirect=["root"], ids=UIS)
def test_the_checkout_has_the_attributes_that_are_read(ui, root):
    for folder, owners in webui_api.ATTRIBUTES[ui].items():
        for owner, wanted in owners.items():
            there = webui_api.attributes(root / folder, owner)
            assert set(wanted) <= there, f"{owner}: {sorted(set(wanted) - there)}"


@pytest.mark.e2e
@pytest.mark.parametrize("ui", [forge(), forge_neo()], ids=lambda ui: ui.name)
def test_the_check_passes_in_a_real_ui(ui):
    """As `selftest --webui` runs it: in the UI's own Python, with nothing of the UI started."""
    if reason := ui.skip_reason():
        pytest.skip(reason)
    plugin = Path(selfcheck.__file__).parents[3]
    done = subprocess.run(
        [os.environ[ui.python], "-m", selfcheck.__name__, os.environ[ui.folder]], cwd=os.environ[ui.folder],
        env={**os.environ, "PYTHONPATH": str(plugin), "PYTHONDONTWRITEBYTECODE": "1"}, capture_output=True, text=True, timeout=300, check=True,
    )  # fmt: skip
    rows = json.loads(done.stdout.splitlines()[-1])["rows"]
    assert {row["id"]: row["status"] for row in rows} == dict.fromkeys(
        ("names", "patcher", "weights", "stand-in", "wrapper", "storage"), "pass"
    ), rows
