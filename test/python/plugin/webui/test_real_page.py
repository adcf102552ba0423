"""The page of a real UI in a real browser: accordion, tab and settings stand in it, and its Generate button makes a picture on an engine."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

pytest.importorskip("torch")

from browser import Browser, chromium  # noqa: E402
from sidecar_process import server_environment  # noqa: E402
from ui_server import UIS, UiServer  # noqa: E402

pytestmark = pytest.mark.e2e

LINES = "[...document.querySelectorAll('.refit-line')].map((line) => line.textContent)"
FIELDS = {"#txt2img_steps input[type=number]": 3, "#txt2img_width input[type=number]": 64, "#txt2img_height input[type=number]": 64}


@pytest.fixture(scope="module", params=["Forge", "A1111", "reForge"])
def page_server(request, tmp_path_factory):
    ui = UIS[request.param]
    missing = (None if shutil.which("node") else "no node on PATH") or (None if chromium() else "no Chromium on PATH; set CHROMIUM to one")
    if reason := ui.skip_reason() or missing:
        pytest.skip(reason)
    environment = server_environment(request.getfixturevalue("sidecar"))
    running = UiServer(ui, tmp_path_factory.mktemp(f"{ui.name}-page"), request.getfixturevalue("models"), environment, page=True)
    try:
        yield running.ready()
    finally:
        running.stop()


@pytest.fixture(params=["light", "dark"])
def page(page_server, request):
    browser = Browser()
    try:
        browser.open(f"{page_server.url}/?__theme={request.param}")
        browser.until("!!document.querySelector('.refit-panel [data-command]') && !!document.querySelector('#refit_txt2img .label-wrap')", 120)
        yield browser
        shot(browser, f"{page_server.ui.name}-{request.param}-{request.node.originalname}")
        assert [line for line in browser.console if "refit" in line.lower()] == []
    finally:
        browser.close()


def shot(browser, name):
    if folder := os.environ.get("REFIT_SCREENSHOTS"):
        browser.screenshot(Path(folder) / f"{name}.png")


def open_tab(page, title):
    page.evaluate(f"[...document.querySelectorAll('#tabs > .tab-nav > button')].find((tab) => tab.textContent.trim().toLowerCase() === '{title}').click(); true")


def type_into(page, selector, value):
    page.evaluate(
        f"{{ const field = document.querySelector({json.dumps(selector)}); field.value = {json.dumps(value)}; field.dispatchEvent(new Event('input', {{bubbles: true}})); }} true"
    )


def test_generate_makes_the_picture_on_an_engine_and_the_line_says_so(page):
    type_into(page, "#txt2img_prompt textarea", "a cat <lora:style:0.8>")
    for selector, value in FIELDS.items():
        type_into(page, selector, value)
    page.evaluate("{ const box = document.querySelector('#refit_txt2img-checkbox input'); if (!box.checked) box.click(); } true")
    page.evaluate("document.querySelector('#txt2img_generate').click(); true")
    page.until(f"{LINES}.every((line) => line.includes('ran on an engine') && line.includes('Last refit'))", 120)
    page.until("document.querySelector('#html_info_txt2img').innerText.includes('<lora:style:0.8>')", 60)
    assert "Refit:" not in page.evaluate("document.querySelector('#html_log_txt2img').innerText")
    page.evaluate("document.querySelector('#refit_txt2img').scrollIntoView({block: 'center'}); true")


def test_accordions_stand_in_both_tabs_inside_their_columns(page):
    for tab in ("txt2img", "img2img"):
        open_tab(page, tab)
        inside = f"""(() => {{
          const box = document.querySelector('#refit_{tab}').getBoundingClientRect(), column = document.querySelector('#{tab}_settings').getBoundingClientRect();
          return box.width > 100 && box.left >= column.left - 1 && box.right <= column.right + 1;
        }})()"""
        page.until(inside)


def test_the_tab_shows_engines_and_loras_and_its_buttons_work(page):
    open_tab(page, "refit")
    page.until("document.querySelector('.refit-panel').innerText.includes('style.safetensors')")
    page.evaluate("[...document.querySelectorAll('.refit-button')].find((button) => button.textContent === 'Warm engine').click(); true")
    page.until("document.querySelector('.refit-panel').innerText.includes('LIVE')", 90)
    page.evaluate("window.scrollTo(0, 0); true")
    overflow = "[...document.querySelectorAll('.refit-panel *')].filter((part) => part.scrollWidth > part.clientWidth + 1 && getComputedStyle(part).display !== 'inline').length"
    assert page.evaluate(overflow) == 0


def test_the_settings_have_a_page_of_their_own(page):
    open_tab(page, "settings")
    page.evaluate("[...document.querySelectorAll('#settings button')].find((button) => button.textContent.trim() === 'Refit Sidecar').click(); true")
    page.until("document.querySelector('#setting_refit_sidecar_host')?.getBoundingClientRect().height > 10")
