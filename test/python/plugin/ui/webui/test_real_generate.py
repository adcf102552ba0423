"""A picture by the page of a real web UI: tab, accordion, its own Generate, in Chromium. Screenshots go to REFIT_SCREENSHOTS when it is set."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import pytest
from browser import Browser, chromium

pytestmark = [pytest.mark.e2e, pytest.mark.skipif(chromium() is None, reason="no Chromium on PATH; set CHROMIUM to one")]

PANEL = "document.querySelector('.refit-panel')"
LINE = "document.querySelector('#refit_txt2img_state .refit-line')"


@pytest.fixture(scope="module", params=["Forge Neo", "Forge", "A1111", "reForge"])
def server(request, tmp_path_factory):
    """REFIT_WEBUI_MODELS: a folder that webui_checkpoints.py filled before."""
    from sidecar_process import Sidecar, server_environment
    from ui_server import UIS, UiServer, make_models

    ui = UIS[request.param]
    if reason := ui.skip_reason() or (None if shutil.which("node") else "no node on PATH"):
        pytest.skip(reason)
    if ready := os.environ.get("REFIT_WEBUI_MODELS"):
        models = Path(ready)
    else:
        models = tmp_path_factory.mktemp("models")
        make_models(models)
    sidecar = Sidecar(tmp_path_factory.mktemp("data"))
    running = UiServer(ui, tmp_path_factory.mktemp(ui.name.replace(" ", "-")), models, server_environment(sidecar), page=True)
    try:
        yield running.ready()
    finally:
        running.stop()
        sidecar.kill()


@pytest.fixture(scope="module")
def page(server):
    browser = Browser()
    try:
        browser.open(f"{server.url}/?__theme=dark")
        # The second one is the UI's own, whose scripts have run then.
        there = (
            "!!document.querySelector('#refit_txt2img_state .refit-line') && !!document.querySelector('#refit_txt2img-visible-checkbox')"
        )
        seen = False
        while not seen:
            # Neo's page loads itself once more, some seconds after it was there.
            browser.until(there, 180)
            browser.evaluate("window.refitSeen = true; true")
            time.sleep(6)
            seen = browser.evaluate("window.refitSeen === true")
        yield browser
        assert [line for line in browser.console if "refit" in line.lower()] == []
    finally:
        browser.close()


def shot(browser: Browser, server, name: str) -> None:
    if folder := os.environ.get("REFIT_SCREENSHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        browser.screenshot(Path(folder) / f"{server.ui.name} {name}.png")


def fill(browser: Browser, field: str, value: object) -> None:
    """A text or a number, as somebody types it."""
    browser.evaluate(
        f"""{{
          const found = document.querySelector({json.dumps(field)});
          const own = Object.getOwnPropertyDescriptor(Object.getPrototypeOf(found), "value").set;
          own.call(found, {json.dumps(str(value))});
          for (const kind of ["input", "change", "blur"]) found.dispatchEvent(new Event(kind, {{ bubbles: true }}));
        }} true"""
    )


def press_tab(browser: Browser, title: str) -> None:
    tabs = "[...document.querySelectorAll('button[role=tab], .tab-nav > button')]"
    browser.evaluate(f"{tabs}.find((tab) => tab.textContent.trim() === '{title}').click(); true")


def test_generate_makes_a_picture_on_an_engine_and_the_accordion_says_so(server, page):
    fill(page, "#txt2img_prompt textarea", "a cat <lora:style:0.8>")
    for what, value in (("steps", 4), ("width", 64), ("height", 64)):
        fill(page, f"#txt2img_{what} input[type=number]", value)
    switch = "document.querySelector('#refit_txt2img-checkbox input')"
    page.evaluate(f"if (!{switch}.checked) {switch}.click(); true")
    before = server.call("/refit-sidecar/facts")["lastRun"]
    page.evaluate("document.querySelector('#txt2img_generate').click(); true")
    page.until(f"{LINE}.textContent.includes('ran on an engine')", 400)
    last = server.call("/refit-sidecar/facts")["lastRun"]
    assert last != before and last["served_by"] == "engine", last
    page.until("document.querySelectorAll('#txt2img_gallery img').length > 0", 120)
    shot(page, server, "txt2img")


def test_the_tab_shows_the_engine_and_the_loras(server, page):
    press_tab(page, "Refit")
    page.until(f"{PANEL}?.checkVisibility() && {PANEL}.innerText.includes('LIVE')", 60)
    text = page.evaluate(f"{PANEL}.innerText")
    for wanted in ("Connected to the sidecar", "tiny", "style"):
        assert wanted in text, text
    shot(page, server, "tab")


def test_a_button_of_the_tab_does_its_work(server, page):
    buttons = "[...document.querySelectorAll('.refit-panel [data-command]')]"
    page.evaluate(f"{buttons}.find((button) => button.textContent === 'Free VRAM').click(); true")
    page.until("[...document.querySelectorAll('.refit-toast')].some((toast) => toast.textContent.includes('freed'))", 60)
    page.until(f"!{PANEL}.innerText.includes('LIVE')", 60)
