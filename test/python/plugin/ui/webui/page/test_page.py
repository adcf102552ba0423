"""Accordion, tab and messages in a real browser, on the Gradio of A1111 (3.41) and of Forge (4.40). Screenshots go to REFIT_SCREENSHOTS when it is set."""

import json
import os
from pathlib import Path

import pytest
from browser import Browser, chromium, serious
from harness import WebUi

if chromium() is None:
    pytestmark = pytest.mark.skip(reason="no Chromium on PATH; set CHROMIUM to one")

BUTTONS = ["Warm engine", "Refit now", "Pause watching", "Free VRAM", "Rebuild engines", "Open dashboard"]
TOASTS = "[...document.querySelectorAll('.refit-toast')].map((toast) => toast.textContent)"
PARTS = (".refit-panel", ".refit-line", ".refit-brief", "#refit-toasts")
BRIEFS = {"warming": "getting ready", "refitting": "refitting", "serving": "on an engine", "fallback": "not on an engine"}
LINES = "[...document.querySelectorAll('.refit-line')].map((line) => [line.dataset.state, line.textContent])"


@pytest.fixture(scope="module")
def ui(models, gradio_python):
    made = WebUi(
        models,
        gradio_python,
        options={"sd_model_checkpoint": "base.safetensors [0123]", "refit_sidecar_host": "torch", "refit_sidecar_profile": "exact size"},
    )
    yield made.connected()
    made.stop()


@pytest.fixture(scope="module", params=["dark", "light"])
def page(ui, request):
    browser = Browser()
    try:
        browser.open(f"{ui.url}/?__theme={request.param}")
        browser.until("!!document.querySelector('.refit-panel [data-command]')", 90)
        browser.evaluate("window.opened = []; window.open = (url) => { window.opened.push(String(url)); return null; }; true")
        yield browser
        shot(browser, request.node.name.split("[")[-1] + request.param)
        assert [line for line in browser.console if "refit" in line.lower()] == []
    finally:
        browser.close()


@pytest.fixture(autouse=True)
def no_old_messages(request):
    if "page" in request.fixturenames:
        request.getfixturevalue("page").evaluate("document.querySelectorAll('.refit-toast').forEach((toast) => toast.remove()); true")


def shot(browser, name):
    folder = os.environ.get("REFIT_SCREENSHOTS")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        browser.screenshot(Path(folder) / f"{''.join(letter if letter.isalnum() else '-' for letter in name)}.png")


def press(page, label):
    page.evaluate(
        f"[...document.querySelectorAll('.refit-button')].find((button) => button.textContent === {json.dumps(label)}).click(); true"
    )


def type_filter(page, text):
    page.evaluate(
        f"{{ const field = document.querySelector('.refit-filter'); field.value = '{text}'; field.dispatchEvent(new Event('input')); }} true"
    )


def said(page, *words):
    """A message with all these words was shown."""
    page.until(f"{TOASTS}.some((text) => {json.dumps(words)}.every((word) => text.includes(word)))")


def open_tab(page, title):
    page.evaluate(
        f"[...document.querySelectorAll('button[role=tab], .tab-nav > button')].find((tab) => tab.textContent.trim() === '{title}').click(); true"
    )


@pytest.mark.parametrize("tab", ["txt2img", "img2img"])
def test_the_accordion_gives_enabled_and_host_to_the_script(page, tab):
    open_tab(page, tab)
    arguments = f"document.querySelector('#arguments_{tab} textarea').value"
    page.evaluate(f"document.querySelector('#generate_{tab}').click(); true")
    page.until(f"{arguments} === '[false, \"torch\"]'")
    page.evaluate(f"document.querySelector('#refit_{tab}-checkbox input').click(); true")
    page.evaluate(f"document.querySelector('#generate_{tab}').click(); true")
    page.until(f"{arguments} === '[true, \"torch\"]'")
    page.evaluate(f"document.querySelector('#refit_{tab}-checkbox input').click(); true")


@pytest.mark.parametrize(
    ("view", "shown"),
    [
        ({"state": "warming", "line": "An engine is being made.", "last_refit_ms": None}, ["warming", "An engine is being made."]),
        ({"state": "refitting", "line": "2 LoRAs go on.", "last_refit_ms": None}, ["refitting", "2 LoRAs go on."]),
        ({"state": "serving", "line": "On an engine.", "last_refit_ms": 45.2}, ["serving", "On an engine. Last refit: 45 ms."]),
        ({"state": "fallback", "line": "<b>No</b> engine.", "last_refit_ms": 1500.0}, ["fallback", "<b>No</b> engine. Last refit: 1.5 s."]),
    ],
)
def test_both_lines_follow_the_state_by_themselves(ui, page, view, shown):
    ui.tell(view=view)
    page.until(f"JSON.stringify({LINES}) === {json.dumps(json.dumps([shown, shown], separators=(',', ':')))}")
    assert page.evaluate("[...document.querySelectorAll('.refit-brief')].map((word) => word.textContent)") == [BRIEFS[shown[0]]] * 2


def test_the_tab_shows_what_the_sidebar_shows(page):
    open_tab(page, "Refit")
    assert page.evaluate("[...document.querySelectorAll('[data-command]')].map((button) => button.textContent)") == BUTTONS
    text = str(
        page.until(
            "document.querySelector('.refit-panel').innerText.includes('ink.safetensors') && document.querySelector('.refit-panel').innerText"
        )
    )
    for wanted in ("Connected to the sidecar.", "sd15 fp32 · fake", "refit 4.2 ms", "64 weights, 1 LoRA", "neon.safetensors", "3 MiB"):
        assert wanted in text
    assert page.evaluate("document.querySelectorAll('.refit-panel').length") == 1


def test_the_filter_keeps_what_is_typed_while_the_page_is_drawn_anew(ui, page):
    type_filter(page, "NEON")
    ui.tell(event={"type": "engine.freed", "engine": "engine-1"})
    page.until(
        "document.querySelector('.refit-adapters').innerText.includes('neon') && !document.querySelector('.refit-adapters').innerText.includes('ink')"
    )
    type_filter(page, "")


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ("Warm engine", ["Getting ready", "base.safetensors"]),
        ("Refit now", ["Started for 1 engine."]),
        ("Free VRAM", ["1 freed"]),
        ("Rebuild engines", ["Started for 1 engine."]),
    ],
)
def test_each_button_does_its_work_and_says_so(page, label, words):
    press(page, label)
    said(page, *words)


def test_watching_is_paused_and_resumed(ui, page):
    press(page, "Pause watching")
    page.until("document.querySelector('.refit-panel').innerText.toLowerCase().includes('watching is paused')")
    press(page, "Resume watching")
    said(page, "watched again")
    assert ui.get("/refit-sidecar/read/status")[1]["watch"]["paused"] is False


def test_the_dashboard_is_a_page_of_its_own(ui, page):
    press(page, "Open dashboard")
    address = page.until("window.opened.at(-1)")
    assert address == f"{ui.url}/refit-sidecar/web/dashboard.html"
    other = Browser()
    try:
        other.open(str(address))
        other.until("document.body?.innerText.includes('ink.safetensors')")
        other.evaluate("location.hash = 'engines'; true")
        other.until("document.querySelector('[data-view=engines]')?.innerText.includes('sd15 · fp32')")
        assert other.console == []
        shot(other, "dashboard")
    finally:
        other.close()


def test_messages_tell_what_happened_and_go_at_a_click(ui, page):
    ui.tell(event={"type": "refit.failed", "message": "The file is <cut> short."})
    said(page, "Refit failed", "The file is <cut> short. The old weights keep serving.")
    ui.tell(run={"served_by": "local", "checkpoint": "base.safetensors", "reason": "the sidecar has no engine for it"})
    said(page, "Not on an engine", "ran in the web UI itself")
    page.until("document.querySelector('.refit-panel').innerText.includes('the sidecar has no engine for it')")
    page.evaluate("document.querySelectorAll('.refit-toast').forEach((toast) => toast.click()); true")
    assert page.evaluate(TOASTS) == []


def test_messages_that_the_settings_refuse_are_not_shown(ui, page):
    page.evaluate("window.opts = { refit_sidecar_messages_fallback: false }; true")
    ui.tell(run={"served_by": "local", "checkpoint": "other.safetensors", "reason": "refused"})
    page.until("document.querySelector('.refit-panel').innerText.includes('other.safetensors')")
    assert page.evaluate(TOASTS) == []
    page.evaluate("delete window.opts; true")


def test_what_happened_before_the_page_was_opened_is_no_news(ui, page):
    ui.tell(event={"type": "refit.failed", "message": "Old."})
    said(page, "Old.")
    page.evaluate("document.querySelectorAll('.refit-toast').forEach((toast) => toast.remove()); true")
    other = Browser()
    try:
        other.open(ui.url)
        other.until("!!document.querySelector('.refit-panel [data-command]')", 60)
        ui.tell(event={"type": "refit.failed", "message": "New."})
        other.until(f"{TOASTS}.length > 0")
        assert "Old." not in str(other.evaluate(TOASTS))
    finally:
        other.close()


def test_the_page_talks_to_its_own_server_only(ui, page):
    addresses = page.evaluate(
        "performance.getEntriesByType('resource').map((entry) => entry.name).filter((name) => name.includes('refit'))"
    )
    assert addresses and all(str(address).startswith(ui.url) for address in addresses)


def test_the_text_is_readable_in_the_theme(page):
    """WCAG's contrast of text on what is behind it, at least 4.5, for every kind of row."""
    script = """
    [...document.querySelectorAll('.refit-button, .refit-name, .refit-connection, .refit-filter, .refit-line')].map((element) => {
      const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
      const luminance = (colour) => {
        const [r, g, b] = colour.map((part) => part / 255).map((part) => (part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
      };
      let behind = element;
      while (behind.parentElement && (rgb(getComputedStyle(behind).backgroundColor)[3] ?? 1) === 0) behind = behind.parentElement;
      const [light, dark] = [rgb(getComputedStyle(element).color), rgb(getComputedStyle(behind).backgroundColor)].map((c) => luminance(c.slice(0, 3))).sort((a, b) => b - a);
      return [element.className, (light + 0.05) / (dark + 0.05)];
    })"""
    poor = [entry for entry in page.evaluate(script) if entry[1] < 4.5]
    assert poor == []


def test_axe_finds_nothing_serious_in_what_the_extension_draws(ui, page):
    open_tab(page, "Refit")
    ui.tell(event={"type": "refit.failed", "message": "The file is cut short."})
    said(page, "Refit failed")
    page.evaluate("document.querySelector('.refit-menu').open = true; true")
    assert serious(page, *PARTS) == []
    page.evaluate("document.querySelector('.refit-menu').open = false; document.querySelector('.refit-adapter').click(); true")
    page.until("!!document.querySelector('.refit-adapter-detail')")
    shot(page, f"detail-{page.evaluate('document.body.classList.contains(`dark`)')}")
    assert serious(page, *PARTS) == []
    page.evaluate("document.querySelector('.refit-adapter-detail > header button').click(); true")


def test_gradio_auth_opens_the_routes_to_signed_in_pages_only(models, gradio_python):
    ui = WebUi(models, gradio_python, gradio_auth="ann:secret")
    browser = Browser()
    try:
        assert ui.get("/refit-sidecar/facts")[1]["code"] == "PAGE_SIGN_IN"
        assert ui.get("/refit-sidecar/facts", {"Cookie": "access-token=x; access-token-unsecure=y"})[0] == 401
        browser.open(ui.url)
        browser.until("document.readyState === 'complete'")
        login = "fetch('/login', { method: 'POST', body: new URLSearchParams({ username: 'ann', password: 'secret' }) }).then((reply) => reply.ok)"
        assert browser.evaluate(login) is True
        browser.open(ui.url)
        browser.until(
            "!!document.querySelector('.refit-panel') && document.querySelector('.refit-panel').innerText.includes('Connected to the sidecar.')",
            60,
        )
    finally:
        browser.close()
        ui.stop()


def test_api_auth_alone_offers_to_sign_in_instead_of_asking_at_once(models, gradio_python):
    ui = WebUi(models, gradio_python, api_auth="ann:secret")
    browser = Browser()
    try:
        browser.open(ui.url)
        browser.until("document.querySelector('.refit-sign-in-link')?.href.endsWith('/refit-sidecar/sign-in')", 60)
        assert browser.evaluate(f"{LINES}.every(([state]) => state === 'sign-in')") is True
        open_tab(browser, "Refit")
        for dark in ("true", "false"):
            browser.evaluate(f"document.body.classList.toggle('dark', {dark}); true")
            assert serious(browser, ".refit-tab", ".refit-line") == []
    finally:
        browser.close()
        ui.stop()
