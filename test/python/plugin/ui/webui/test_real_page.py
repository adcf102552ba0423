"""The tab in the page of a real UI, with the real sidecar and an engine: axe-core on it in both themes. REFIT_SCREENSHOTS names a folder for screenshots."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from browser import Browser, chromium, serious

torch = pytest.importorskip("torch")

from sidecar_process import server_environment  # noqa: E402
from ui_server import EXTENSIONS, UIS, UiServer  # noqa: E402

pytestmark = [pytest.mark.e2e, pytest.mark.skipif(chromium() is None, reason="no Chromium on PATH; set CHROMIUM to one")]
OURS = {name: place for name, place in EXTENSIONS.items() if name == "a-refit-sidecar"}
PANEL = "document.querySelector('.refit-panel')"
PARTS = (".refit-panel", ".refit-line", ".refit-brief")


@pytest.fixture(scope="module", params=["Forge", "Forge Neo", "A1111", "reForge"])
def with_page(request, tmp_path_factory):
    ui = UIS[request.param]
    if reason := ui.skip_reason() or (None if shutil.which("node") else "no node on PATH"):
        pytest.skip(reason)
    environment = server_environment(request.getfixturevalue("sidecar"))
    models = request.getfixturevalue("models")
    running = UiServer(ui, tmp_path_factory.mktemp(f"{ui.name.split()[-1]}-page"), models, environment, OURS, page=True)
    try:
        running.ready()
        running.call("/refit-sidecar/warm", {"checkpoint": None})
        yield running
    finally:
        running.stop()


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_the_tab_shows_the_engine_and_axe_finds_nothing_serious_in_it(with_page, theme):
    browser = Browser()
    try:
        browser.open(f"{with_page.url}/?__theme={theme}")
        browser.until(f"!!{PANEL}?.querySelector('.refit-adapter')", 120)
        browser.evaluate(
            "[...document.querySelectorAll('#tabs button')].find((tab) => tab.textContent.trim() === 'Refit' && tab.offsetParent).click(); true"
        )
        browser.until(f"{PANEL}.offsetParent && {PANEL}.innerText.includes('sd15 fp32')", 120)
        found = {"list": serious(browser, *PARTS)}
        shot(browser, f"{with_page.ui.name}-{theme}")
        browser.evaluate("document.querySelector('.refit-menu').open = true; true")
        found["menu"] = serious(browser, *PARTS)
        browser.evaluate("document.querySelector('.refit-menu').open = false; document.querySelector('.refit-adapter').click(); true")
        browser.until("!!document.querySelector('.refit-heat')")
        found["detail"] = serious(browser, *PARTS)
        shot(browser, f"{with_page.ui.name}-{theme}-lora")
        assert found == {"list": [], "menu": [], "detail": []}
        assert [line for line in browser.console if "refit" in line.lower()] == []
    finally:
        browser.close()


def shot(browser: Browser, name: str) -> None:
    folder = os.environ.get("REFIT_SCREENSHOTS")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        browser.screenshot(Path(folder) / f"{name.replace(' ', '-')}.png")
