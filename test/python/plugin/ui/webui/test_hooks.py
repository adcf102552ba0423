"""What the script hands on, and the folders that the UI's arguments name."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")
sys.path.insert(0, str(Path(__file__).resolve().parent))

from hook_ui import Ui  # noqa: E402


@pytest.fixture
def ui(tmp_path, monkeypatch):
    made = Ui(tmp_path, monkeypatch)
    yield made
    made.stop()


@pytest.fixture
def callbacks(ui):
    """Names of the callbacks that were registered."""
    registered = []
    for name in ("on_list_unets", "on_cfg_denoiser"):
        setattr(ui.modules.script_callbacks, name, lambda callback, name=name: registered.append(name))
    return registered


@pytest.mark.parametrize(("name", "expected"), [("A1111", ["on_list_unets", "on_cfg_denoiser"]), ("Forge", ["on_cfg_denoiser"])])
def test_each_ui_gets_its_own_backend_and_only_that(ui, callbacks, monkeypatch, name, expected):
    from refit_sidecar_plugin.ui.webui import hooks

    monkeypatch.setattr(hooks, "ui_name", lambda: name)
    hooks.Hooks()
    assert callbacks == expected


def test_the_panels_values_are_the_wish_and_show_in_the_status(ui, callbacks, monkeypatch):
    from refit_sidecar_plugin.ui.webui import hooks

    monkeypatch.setattr(hooks, "ui_name", lambda: "Forge")
    made = hooks.Hooks()
    made.before_process((True, "torch"))
    assert (ui.view.enabled, ui.view.host) == (True, "torch")
    made.before_process((False, "auto", "auto"))
    assert not ui.view.enabled and ui.view.line == "Switched off: pictures are made in Forge itself."
    made.networks_active(None, (True,), {})
    made.sampled()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((), (False, "auto")),
        ((True,), (True, "auto")),
        ((1, "tensorrt", "exact size", "more"), (True, "tensorrt")),
        ((True, ["x"], 7), (True, "auto")),
    ],
    ids=str,
)
def test_an_api_call_may_send_fewer_values_those_of_an_older_version_or_senseless_ones(ui, values, expected):
    from refit_sidecar_plugin.ui.webui.wish import Wish

    wish = Wish.of(values)
    assert (wish.enabled, wish.host) == expected


def test_folders_come_from_the_uis_own_arguments(ui, tmp_path):
    from refit_sidecar_plugin.ui.webui.plugin import folders

    for name in ("more checkpoints", "lyco"):
        (tmp_path / name).mkdir()
    ui.modules.shared.cmd_opts = SimpleNamespace(
        lora_dir=ui.file("Lora"), lyco_dir_backcompat=str(tmp_path / "lyco"), ckpt_dir=str(tmp_path / "more checkpoints")
    )
    found = [(Path(folder.path).name, folder.kind) for folder in folders()]
    assert found == [("Lora", "adapters"), ("lyco", "adapters"), ("Stable-diffusion", "checkpoints"), ("more checkpoints", "checkpoints")]


def test_a_folder_is_named_once_and_one_that_is_missing_not_at_all(ui):
    from refit_sidecar_plugin.ui.webui.plugin import folders

    ui.modules.shared.cmd_opts = SimpleNamespace(
        lora_dir=None, lyco_dir_backcompat=ui.file("LyCORIS"), ckpt_dir=ui.file("Stable-diffusion")
    )
    assert [Path(folder.path).name for folder in folders()] == ["Lora", "Stable-diffusion"]
