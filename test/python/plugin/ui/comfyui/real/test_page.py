"""The real page in a real browser: the tab, every button, commands, messages. Screenshots go to REFIT_SCREENSHOTS when it is set.

Runs on the frontend that ComfyUI's requirements bring, and once more on the one in REFIT_FRONTEND (the `static` folder of a newer frontend package).
"""

import json
import os
import shutil
import time
from pathlib import Path

import pytest
from browser import Browser, chromium
from comfy_run import Run
from comfy_server import REPO, ComfyServer
from graphs import Choices
from sidecar_process import server_environment
from test_behaviour import attention_patch

BUTTONS = (
    "Refit.UseEngines",
    "Refit.Warm",
    "Refit.RefitNow",
    "Refit.PauseWatching",
    "Refit.FreeMemory",
    "Refit.Rebuild",
    "Refit.OpenDashboard",
)
TAB = "refit-sidecar"
ENGINE_LOADER = "window.app.graph._nodes.find((node) => node.comfyClass === 'RefitLoadEngine')"
PANEL = "document.querySelector('.refit-panel')"

pytestmark = pytest.mark.skipif(chromium() is None, reason="no Chromium on PATH; set CHROMIUM to one")

# Keeps what messages said and which pages would have been opened; both would be gone before a test could look.
MESSAGES = ".p-toast-message, [role=status], .shadow-lg.rounded-lg.border"
WATCH = """
window.toasts = [];
window.opened = [];
window.open = (url) => { window.opened.push(String(url)); return null; };
new MutationObserver(() => {
  const messages = document.querySelectorAll("MESSAGES");
  for (const message of messages) window.toasts.push(message.textContent);
}).observe(document.body, { childList: true, subtree: true });
true
""".replace("MESSAGES", MESSAGES)

FRONTENDS = {"of the requirements": None, "newest": os.environ.get("REFIT_FRONTEND")}


@pytest.fixture(scope="module", params=FRONTENDS, ids=lambda name: name.replace(" ", "-"))
def page(request, base, sidecar, tmp_path_factory):
    """A server of its own on the same models: ComfyUI's frontend is chosen at its start."""
    root = FRONTENDS[request.param]
    if request.param == "newest" and not root:
        pytest.skip("REFIT_FRONTEND is not set: point it at the static folder of a newer comfyui-frontend-package")
    server = ComfyServer(base, environment=server_environment(sidecar), arguments=["--front-end-root", root] if root else []).ready()
    browser = Browser()
    try:
        run = Run(server, tmp_path_factory.mktemp("out"))
        run(Choices(adapters=[("style.safetensors", 0.8)]))
        browser.open(f"http://127.0.0.1:{server.port}/")
        browser.until("!!window.app?.extensionManager?.getSidebarTabs?.().some((tab) => tab.id === 'refit-sidecar')", 90)
        browser.evaluate(WATCH)
        open_tab(browser)
        yield server, browser, run, request.param
    finally:
        browser.close()
        server.stop()


def open_tab(browser: Browser) -> None:
    if not browser.evaluate(f"!!{PANEL}"):
        execute(browser, f"Workspace.ToggleSidebarTab.{TAB}")
    browser.until(f"!!{PANEL}")


def shot(browser: Browser, name: str) -> None:
    folder = os.environ.get("REFIT_SCREENSHOTS")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        browser.screenshot(Path(folder) / f"{name}.png")


def press(browser: Browser, command: str) -> None:
    browser.evaluate("window.toasts.length = 0; true")
    browser.evaluate(f"document.querySelector('[data-command=\"{command}\"]').click(); true")


def toast(browser: Browser, says: str) -> None:
    browser.until(f"window.toasts.some((text) => text.includes({says!r}))", 60)


def forget_messages(browser: Browser) -> None:
    """Not before those in sight are gone: they would be noted again."""
    browser.until(f"![...document.querySelectorAll('{MESSAGES}')].some((one) => one.textContent.includes('Not on an engine'))", 60)
    browser.evaluate("window.toasts.length = 0; true")


def execute(browser: Browser, command: str) -> None:
    browser.evaluate(f"window.app.extensionManager.command.execute('{command}').then?.(() => true) ?? true")


def dismiss(browser: Browser) -> None:
    """A first visit shows templates over everything, on some frontends after a while."""
    gone = "document.querySelectorAll('[role=dialog]').length === 0"
    for _ in range(5):
        # A control that has the focus may keep the key to itself.
        browser.evaluate("document.activeElement?.blur(); true")
        for kind in ("keyDown", "keyUp"):
            browser.send("Input.dispatchKeyEvent", type=kind, key="Escape", code="Escape", windowsVirtualKeyCode=27)
        if browser.evaluate(f"new Promise((then) => setTimeout(() => then({gone}), 400))"):
            return
    browser.until(gone)


REACHED = """
(() => {
  const target = TARGET;
  target.scrollIntoView({ block: 'center' });
  const { left, top, width, height } = target.getBoundingClientRect();
  const [x, y] = [left + width / 2, top + height / 2];
  for (let turn = 0; turn < 9; turn += 1) {
    let found = document.elementFromPoint(x, y);
    if (!found || target.contains(found) || found.contains(target)) break;
    // A message over it: a person would wait until it is gone.
    while (found.parentElement && !['fixed', 'absolute'].includes(getComputedStyle(found).position)) found = found.parentElement;
    found.style.display = 'none';
  }
  return [x, y];
})()
"""


def click(browser: Browser, target: str) -> None:
    """With the mouse, as some controls hear nothing else."""
    x, y = browser.evaluate(REACHED.replace("TARGET", target))  # type: ignore[misc]
    for kind, buttons in (("mouseMoved", 0), ("mousePressed", 1), ("mouseReleased", 0)):
        browser.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=buttons, clickCount=1)


def adapters(browser: Browser) -> list[str]:
    return browser.evaluate(f"[...{PANEL}.querySelectorAll('.refit-adapters .refit-name')].map((row) => row.textContent)")


def filter_by(browser: Browser, text: str) -> None:
    field = f"{PANEL}.querySelector('.refit-filter')"
    browser.evaluate(f"{field}.focus(); {field}.value = '{text}'; {field}.dispatchEvent(new Event('input')); true")


def test_the_tab_shows_engines_refits_loras_and_the_last_run(page):
    _, browser, _, name = page
    dismiss(browser)
    text = browser.until(f"{PANEL}.textContent.includes('LIVE') && {PANEL}.textContent")
    for expected in (
        "Connected to the sidecar",
        "sd15_tiny.safetensors",
        "on an engine",
        "onnxruntime",
        "MiB",
        "style.safetensors",
        "ünï style.safetensors",
    ):
        assert expected in text, expected
    shot(browser, f"{name} panel")


def test_the_panel_has_the_scheme_of_the_theme(page):
    """The colours that say how something is would be hard to read in the other one."""
    _, browser, _, name = page
    scheme = f"getComputedStyle({PANEL}).colorScheme"
    setting = "window.app.extensionManager.setting"
    assert browser.evaluate(scheme) == "dark"
    browser.evaluate(f"Promise.resolve({setting}.set('Comfy.ColorPalette', 'light')).then(() => true)")
    browser.until(f"{scheme} === 'light'")
    shot(browser, f"{name} light theme")
    browser.evaluate(f"Promise.resolve({setting}.set('Comfy.ColorPalette', 'dark')).then(() => true)")
    browser.until(f"{scheme} === 'dark'")


def test_the_filter_narrows_the_lora_list_and_keeps_the_focus(page):
    _, browser, _, _ = page
    dismiss(browser)
    filter_by(browser, "KRON")
    # Another server's folders may show the same file a second time.
    found, focused = set(adapters(browser)), browser.evaluate("document.activeElement.className")
    filter_by(browser, "")
    assert found == {"kron.safetensors"} and focused == "refit-filter"
    assert len(adapters(browser)) > 4


EXAMPLES = REPO / "plugin" / "example_workflows"
OPENED = """
(async () => {
  const answer = await fetch(`/api/workflow_templates/refit-sidecar/${encodeURIComponent(NAME)}.json`);
  await window.app.loadGraphData(await answer.json());
  const nodes = window.app.graph._nodes;
  const unknown = nodes.filter((node) => !(node.type in window.LiteGraph.registered_node_types) || node.has_errors).map((node) => node.type);
  const wrong = nodes.flatMap((node) => (node.widgets ?? [])
    .filter((widget) => Array.isArray(widget.options?.values) && !widget.options.values.includes(widget.value))
    .map((widget) => `${node.type}.${widget.name} = ${widget.value}`));
  return { nodes: nodes.length, unknown, wrong };
})()
"""


@pytest.mark.parametrize("name", sorted(file.stem for file in EXAMPLES.glob("*.json")))
def test_an_example_workflow_opens_without_an_error_and_has_a_picture(page, name):
    server, browser, _, root = page
    dismiss(browser)
    assert name in server.call("/workflow_templates")["refit-sidecar"]
    browser.console.clear()
    opened = browser.evaluate(OPENED.replace("NAME", json.dumps(name)))
    assert opened["nodes"] == len(json.loads((EXAMPLES / f"{name}.json").read_text(encoding="utf-8"))["nodes"])
    assert (opened["unknown"], opened["wrong"]) == ([], [])
    assert browser.evaluate("document.querySelectorAll('[role=dialog], [role=alertdialog]').length") == 0
    shot(browser, f"{root} example {name}")
    # The gallery of templates asks for a picture of the same name.
    kind = f"fetch('/api/workflow_templates/refit-sidecar/' + encodeURIComponent({name!r}) + '.jpg').then((reply) => reply.headers.get('content-type'))"
    assert browser.evaluate(kind) == "image/jpeg"


def test_every_button_is_there_and_in_the_menu(page):
    _, browser, _, _ = page
    assert browser.evaluate(f"[...{PANEL}.querySelectorAll('[data-command]')].map((button) => button.dataset.command).join()") == ",".join(
        BUTTONS
    )
    commands = browser.evaluate(
        "window.app.extensionManager.command.commands.map((command) => command.id).filter((id) => id.startsWith('Refit.')).join()"
    )
    assert set(BUTTONS) <= set(commands.split(","))


def refits(server) -> int:
    return len(server.call("/refit/read/events.history?params=%7B%22topics%22%3A%5B%22refit%22%5D%7D")["events"])


def test_refit_now_starts_a_refit_that_comes_up_in_the_history(page):
    server, browser, _, name = page
    before = refits(server)
    press(browser, "Refit.RefitNow")
    toast(browser, "Started for 1 engine")
    # On a busy computer it waits for its turn.
    deadline = time.monotonic() + 240
    while refits(server) == before:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    shot(browser, f"{name} refit now")


@pytest.fixture
def watching_again(page):
    """A test that ends while watching is paused must not leave it so: later tests bring new files."""
    yield
    server = page[0]
    if server.call("/refit/read/status")["watch"]["paused"]:
        server.call("/refit/change/watch.resume", {})


def test_pause_and_resume_watching(page, watching_again):
    server, browser, _, name = page
    press(browser, "Refit.PauseWatching")
    toast(browser, "ignored until resumed")
    browser.until(f"{PANEL}.textContent.includes('Resume watching')")
    assert server.call("/refit/read/status")["watch"]["paused"] is True
    shot(browser, f"{name} paused")
    press(browser, "Refit.PauseWatching")
    browser.until(f"{PANEL}.textContent.includes('Pause watching')")
    assert server.call("/refit/read/status")["watch"]["paused"] is False


def test_use_engines_replaces_the_loader_with_its_links_and_warm_finds_it(page):
    _, browser, _, name = page
    load = "{class_type: 'CheckpointLoaderSimple', inputs: {ckpt_name: 'sd15_tiny.safetensors'}}"
    lora = "{class_type: 'LoraLoader', inputs: {model: ['1', 0], clip: ['1', 1], lora_name: 'style.safetensors', strength_model: 1, strength_clip: 1}}"
    browser.evaluate(f"window.app.loadApiJson({{1: {load}, 2: {lora}}}, 'test'); true")
    browser.until("window.app.graph._nodes.length === 2")
    execute(browser, "Refit.UseEngines")
    browser.until("window.app.graph._nodes.some((node) => node.comfyClass === 'RefitLoadEngine')")
    linked = "(node.inputs ?? []).filter((input) => input.link != null).length"
    nodes = browser.evaluate(f"window.app.graph._nodes.map((node) => [node.comfyClass, {linked}].join()).sort()")
    assert nodes == ["LoraLoader,2", "RefitLoadEngine,0"]
    assert browser.evaluate(f"{ENGINE_LOADER}.widgets.find((widget) => widget.name === 'ckpt_name').value") == "sd15_tiny.safetensors"
    press(browser, "Refit.Warm")
    toast(browser, "sd15_tiny.safetensors")
    shot(browser, f"{name} use engines and warm")


def test_use_engines_goes_through_the_whole_workflow_and_keeps_what_a_loader_was(page):
    _, browser, _, name = page
    load = "{class_type: 'CheckpointLoaderSimple', inputs: {ckpt_name: 'sd15_tiny.safetensors'}}"
    lora = "{class_type: 'LoraLoader', inputs: {model: ['1', 0], clip: ['1', 1], lora_name: 'style.safetensors', strength_model: 1, strength_clip: 1}}"
    browser.evaluate(f"window.app.loadApiJson({{1: {load}, 2: {lora}}}, 'muted'); true")
    browser.until("window.app.graph._nodes.length === 2")
    loader = "window.app.graph._nodes.find((node) => node.comfyClass === 'CheckpointLoaderSimple')"
    browser.evaluate(f"Object.assign({loader}, {{ mode: 4, color: '#332922', title: 'Mine' }}); true")
    execute(browser, "Refit.UseEngines")
    browser.until(f"!!{ENGINE_LOADER}")
    assert browser.evaluate(f"[{ENGINE_LOADER}.mode, {ENGINE_LOADER}.color, {ENGINE_LOADER}.title].join()") == "4,#332922,Mine"
    made = "typeof window.app.graph.convertToSubgraph === 'function'"
    if not browser.evaluate(made):
        print(f"{name}: this frontend has no subgraphs")
        return
    browser.evaluate(f"window.app.loadApiJson({{1: {load}, 2: {lora}}}, 'inner'); true")
    browser.until(f"window.app.graph._nodes.length === 2 && !!{loader}")
    browser.evaluate(f"window.app.graph.convertToSubgraph(new Set([{loader}])); true")
    inner = "[...window.app.graph.subgraphs.values()].at(-1)"
    browser.until(f"{inner}.nodes.some((node) => node.comfyClass === 'CheckpointLoaderSimple')")
    execute(browser, "Refit.UseEngines")
    browser.until(f"{inner}.nodes.some((node) => node.comfyClass === 'RefitLoadEngine')")
    linked = f"[...({inner}._links ?? {inner}.links).values()].map((link) => [link.origin_slot, link.target_id].join(':')).sort().join()"
    assert browser.evaluate(linked) == "0:-20,1:-20"
    shot(browser, f"{name} use engines in a subgraph")


OLD = {
    "last_node_id": 2, "last_link_id": 0, "links": [], "version": 0.4,
    "nodes": [
        {"id": 1, "type": "RefitWarmEngine", "pos": [0, 0], "size": [300, 400], "flags": {}, "order": 0, "mode": 0,
         "widgets_values": ["sd15_other.safetensors", 1, 2, 4, 512, 1024, 1024, 512, 1024, 1024, 77, 77, 231, "fp16"]},
        {"id": 2, "type": "RefitLoadEngine", "pos": [400, 0], "size": [300, 200], "flags": {}, "order": 1, "mode": 0,
         "widgets_values": ["sd15_other.safetensors", "onnxruntime", "fp32", "exact size"]},
    ],
}  # fmt: skip


def test_a_workflow_that_was_saved_with_the_old_inputs_keeps_its_values(page):
    _, browser, _, _ = page
    browser.evaluate(f"window.app.loadGraphData({json.dumps(OLD)}).then(() => true)")
    browser.until("window.app.graph._nodes.length === 2 && window.app.graph._nodes.every((node) => node.comfyClass?.startsWith('Refit'))")
    values = "JSON.stringify(window.app.graph._nodes.map((node) => node.widgets.filter((one) => one.name !== 'report').map((one) => [one.name, one.value])))"
    assert json.loads(str(browser.evaluate(values))) == [
        [["ckpt_name", "sd15_other.safetensors"], ["precision", "fp16"]],
        [["ckpt_name", "sd15_other.safetensors"], ["host", "onnxruntime"], ["precision", "fp32"]],
    ]


def test_the_badge_and_the_engines_follow_the_runs(page):
    _, browser, run, name = page
    run(Choices(seed=41))
    browser.until(f"{PANEL}.textContent.includes('idle') && !{PANEL}.textContent.includes('in use')")
    if not browser.evaluate("document.body.textContent.includes('REFIT')"):
        print(f"{name}: this frontend shows no badges")
        return
    # Newer frontends show the text before the label.
    browser.until("/REFIT\\s*engine|engine\\s*REFIT/.test(document.body.textContent)")
    run(Choices(seed=42, model=attention_patch))
    browser.until("/REFIT\\s*in ComfyUI|in ComfyUI\\s*REFIT/.test(document.body.textContent)")
    shot(browser, f"{name} badge")


def test_open_dashboard_opens_a_page_of_comfyuis_own_server(page):
    server, browser, _, name = page
    press(browser, "Refit.OpenDashboard")
    url = str(browser.until("window.opened[0]"))
    assert url.startswith(f"http://127.0.0.1:{server.port}/extensions/") and url.endswith("/dashboard.html")
    second = Browser(900, 900)
    try:
        second.open(url)
        second.until("document.querySelector('.refit-adapters')?.textContent.includes('style.safetensors')")
        second.evaluate("location.hash = 'engines'; true")
        second.until("document.querySelector('[data-view=engines]')?.textContent.includes('LIVE')")
        shot(second, f"{name} dashboard")
    finally:
        second.close()


def test_a_new_lora_refreshes_the_lists_and_is_told(page, base):
    _, browser, _, name = page
    # The workflow that an earlier test left open need not have one.
    browser.evaluate("window.app.graph.add(window.LiteGraph.createNode('LoraLoader')); true")
    browser.evaluate("window.toasts.length = 0; true")
    shutil.copy(base / "models/loras/hada.safetensors", base / "models/loras/dropped.tmp")
    (base / "models/loras/dropped.tmp").rename(base / "models/loras" / f"dropped {name}.safetensors")
    browser.until(f"{PANEL}.textContent.includes('dropped {name}.safetensors')", 60)
    toast(browser, f"dropped {name}.safetensors can be used on an engine")
    values = "window.app.graph._nodes.find((node) => node.comfyClass === 'LoraLoader').widgets.find((widget) => widget.name === 'lora_name').options.values"
    browser.until(f"{values}.includes('dropped {name}.safetensors')", 60)
    shot(browser, f"{name} new LoRA")


def test_a_run_in_comfyui_itself_is_told_with_its_reason(page):
    _, browser, run, name = page
    browser.evaluate("window.toasts.length = 0; true")
    run(Choices(seed=31, model=attention_patch))
    toast(browser, "attn1_output_patch")
    browser.until(f"{PANEL}.textContent.includes('in ComfyUI itself')")
    shot(browser, f"{name} in ComfyUI itself")


def test_a_recent_stack_goes_into_the_workflow_behind_its_loader(page):
    _, browser, run, name = page
    run(Choices(seed=33, adapters=[("style.safetensors", 0.8)]))
    load = "{class_type: 'CheckpointLoaderSimple', inputs: {ckpt_name: 'sd15_tiny.safetensors'}}"
    lora = "{class_type: 'LoraLoader', inputs: {model: ['1', 0], clip: ['1', 1], lora_name: 'kron.safetensors', strength_model: 1, strength_clip: 1}}"
    browser.evaluate(f"window.app.loadApiJson({{1: {load}, 2: {lora}}}, 'stack'); true")
    browser.until("window.app.graph._nodes.length === 2")
    recent = f"[...{PANEL}.querySelectorAll('.refit-recent')].find((button) => button.textContent === 'style × 0.8')"
    browser.until(f"!!{recent}", 60)
    browser.evaluate(f"{recent}.click(); true")
    made = "window.app.graph._nodes.find((node) => node.comfyClass === 'LoraLoaderModelOnly')"
    browser.until(f"!!{made}")
    assert browser.evaluate(f"{made}.widgets.slice(0, 2).map((widget) => widget.value)") == ["style.safetensors", 0.8]
    node = "window.app.graph.getNodeById"
    fed = f"[...window.app.graph.links.values()].map((link) => [{node}(link.origin_id).comfyClass, link.origin_slot, {node}(link.target_id).comfyClass].join())"
    assert set(browser.evaluate(fed)) == {
        "CheckpointLoaderSimple,0,LoraLoaderModelOnly",
        "CheckpointLoaderSimple,1,LoraLoader",
        "LoraLoaderModelOnly,0,LoraLoader",
    }
    covered = """
    window.app.graph._nodes.flatMap((one, index, all) => all.slice(index + 1).filter((other) =>
      [0, 1].every((axis) => one.pos[axis] < other.pos[axis] + other.size[axis] && other.pos[axis] < one.pos[axis] + one.size[axis])
    ).map((other) => `${one.comfyClass} ${other.comfyClass}`)).join()
    """
    assert browser.evaluate(covered) == ""
    shot(browser, f"{name} recent stack")


def test_a_workflow_that_shall_be_quiet_is_and_keeps_it(page):
    _, browser, run, name = page
    run(Choices(seed=34, model=attention_patch))
    quiet = (
        f"[...{PANEL}.querySelectorAll('label')].find((label) => label.textContent.includes('Do not tell again'))?.querySelector('input')"
    )
    browser.until(f"!!{quiet}", 60)
    browser.evaluate(f"{quiet}.click(); true")
    assert browser.evaluate("window.app.graph.serialize().extra.refit.quiet") is True
    toast(browser, "attn1_output_patch")
    forget_messages(browser)
    run(Choices(seed=35, model=attention_patch))
    time.sleep(1)
    assert not [text for text in browser.evaluate("window.toasts") if "Not on an engine" in text]
    shot(browser, f"{name} quiet")
    browser.evaluate(f"{quiet}.click(); true")


SETTING = """
(() => {
  const texts = [...document.querySelectorAll('[role=dialog] *')].filter((one) => one.childElementCount === 0);
  let row = texts.find((one) => one.textContent.trim().startsWith(NAME));
  while (row && !row.querySelector(WHAT)) row = row.parentElement;
  return row?.querySelector(WHAT);
})()
"""


def setting(name: str, what: str) -> str:
    """The control of a setting in ComfyUI's dialog, as an expression."""
    return SETTING.replace("NAME", json.dumps(name)).replace("WHAT", json.dumps(what)).strip()


def test_comfyuis_own_settings_show_the_folders_and_give_new_loaders_their_precision(page):
    _, browser, _, name = page
    execute(browser, "Comfy.ShowSettingsDialog")
    category = (
        "[...document.querySelectorAll('[role=dialog] *')].find((one) => one.childElementCount === 0 && one.textContent.trim() === 'Refit')"
    )
    browser.until(f"!!{category}")
    browser.evaluate(f"{category}.click(); true")
    browser.until("document.querySelectorAll('.refit-folder-list li').length >= 2")
    folders = browser.evaluate("[...document.querySelectorAll('.refit-folder-list li')].map((line) => line.textContent)")
    assert any("adapters" in line for line in folders) and any("checkpoints" in line for line in folders), folders
    text = browser.evaluate("document.querySelector('[role=dialog]').textContent")
    for expected in ("Tell when a new LoRA is ready", "Tell when a run was not on an engine", "Engine host of new Load Engine nodes"):
        assert expected in text, expected
    shot(browser, f"{name} settings")
    choice = setting("Precision of new Load Engine nodes", "[role=combobox], select")
    browser.until(f"!!{choice}")
    click(browser, choice)
    option = "[...document.querySelectorAll('[role=option]')].find((one) => one.textContent.trim() === 'fp32')"
    browser.until(f"!!{option}")
    shot(browser, f"{name} settings precision")
    click(browser, option)
    browser.until("window.app.extensionManager.setting.get('Refit.Engine.Precision') === 'fp32'")
    dismiss(browser)
    browser.evaluate("window.app.graph.clear(); window.app.graph.add(window.LiteGraph.createNode('RefitLoadEngine')); true")
    assert browser.evaluate(f"{ENGINE_LOADER}.widgets.find((widget) => widget.name === 'precision').value") == "fp32"
    browser.evaluate("Promise.resolve(window.app.extensionManager.setting.set('Refit.Engine.Precision', 'auto')).then(() => true)")


def test_a_setting_that_turns_messages_off_does(page):
    _, browser, run, _ = page
    setting = "window.app.extensionManager.setting"
    browser.evaluate(f"Promise.resolve({setting}.set('Refit.Toasts.Fallback', false)).then(() => true)")
    forget_messages(browser)
    run(Choices(seed=36, model=attention_patch))
    browser.until(f"{PANEL}.textContent.includes('in ComfyUI itself')", 60)
    time.sleep(1)
    told = [text for text in browser.evaluate("window.toasts") if "Not on an engine" in text]
    browser.evaluate(f"Promise.resolve({setting}.set('Refit.Toasts.Fallback', true)).then(() => true)")
    assert told == []


def test_the_sidebar_has_loras_first_then_recent_stacks_the_last_run_and_engines_by_name(page):
    _, browser, run, name = page
    run(Choices(seed=37, adapters=[("style.safetensors", 0.8)]))
    order = f"[...{PANEL}.querySelectorAll('.refit-section > h3')].map((title) => title.textContent)"
    browser.until(f"{order}.includes('Recent stacks')", 60)
    assert browser.evaluate(order)[:5] == ["LoRAs", "Recent stacks", "Last run", "Engines", "Work in the background"]
    engines = (
        f"[...{PANEL}.querySelectorAll('.refit-section')].find((one) => one.querySelector('h3').textContent === 'Engines').textContent"
    )
    browser.until(f"{engines}.includes('sd15_tiny') && {engines}.includes('style × 0.8')", 60)
    # Of all the buttons the first alone is in sight; an operator's are in a menu.
    shown = (
        f"[...{PANEL}.querySelectorAll('[data-command]')].filter((button) => button.checkVisibility()).map((button) => button.textContent)"
    )
    assert browser.evaluate(shown) == ["Use engines here"]
    browser.evaluate(f"{PANEL}.querySelector('.refit-menu summary').click(); true")
    assert len(browser.evaluate(shown)) == len(BUTTONS)
    shot(browser, f"{name} menu")
    browser.evaluate(f"{PANEL}.querySelector('.refit-menu summary').click(); true")


def test_what_fits_follows_the_checkpoint_of_the_open_workflow(page):
    _, browser, _, name = page
    load = "{class_type: 'CheckpointLoaderSimple', inputs: {ckpt_name: 'sd15_tiny.safetensors'}}"
    browser.evaluate(f"window.app.loadApiJson({{1: {load}}}, 'fits'); true")
    fits = (
        f"[...{PANEL}.querySelectorAll('label')].find((label) => label.textContent.includes('Fits this workflow'))?.querySelector('input')"
    )
    browser.until(f"!!{fits}", 60)
    browser.evaluate(f"{fits}.click(); true")
    browser.until(f"{PANEL}.querySelector('.refit-count').textContent.includes('LoRA')")
    all_fit = adapters(browser)
    assert "style.safetensors" in all_fit
    loader = "window.app.graph._nodes.find((node) => node.comfyClass === 'CheckpointLoaderSimple')"
    widget = f"{loader}.widgets.find((one) => one.name === 'ckpt_name')"
    browser.evaluate(f"{widget}.value = 'vega_tiny.safetensors'; {widget}.callback('vega_tiny.safetensors'); true")
    browser.until(f"![...{PANEL}.querySelectorAll('.refit-adapters .refit-name')].some((row) => row.textContent === 'style.safetensors')")
    shot(browser, f"{name} fits another model")
    browser.evaluate(f"{fits}.click(); true")
    browser.until(f"[...{PANEL}.querySelectorAll('.refit-adapters .refit-name')].some((row) => row.textContent === 'style.safetensors')")


def test_rebuild_and_free_vram(page):
    server, browser, run, name = page
    run(Choices(seed=32))
    press(browser, "Refit.Rebuild")
    toast(browser, "Started for")
    deadline = time.monotonic() + 120
    # Not those that nobody asked for: they stand back behind a busy machine.
    while any(job["state"] in ("queued", "running") and job["kind"] == "rebuild" for job in server.call("/refit/read/jobs.list")["jobs"]):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    press(browser, "Refit.FreeMemory")
    toast(browser, "freed")
    browser.until(f"{PANEL}.textContent.includes('No engine is loaded')", 60)
    shot(browser, f"{name} freed")


def test_other_origins_forms_and_unknown_calls_are_refused(page):
    server, _, _, _ = page
    for headers, says in (
        ({"Content-Type": "text/plain"}, "415"),
        ({"Origin": "http://evil.example"}, "403"),
        ({"Sec-Fetch-Site": "cross-site"}, "403"),
    ):
        with pytest.raises(AssertionError, match=says):
            server.call("/refit/change/engine.free", {"engine": None}, headers)
    for path in ("/refit/change/folders.add", "/refit/change/engine.step"):
        with pytest.raises(AssertionError, match="404"):
            server.call(path, {})


def test_nothing_that_the_page_gets_is_the_token(page, sidecar):
    server, browser, _, _ = page
    token = json.loads((sidecar.data / "sidecar.json").read_text())["token"]
    for path in ("/refit/facts", "/refit/read/status", "/refit/read/engine.list", "/refit/read/folders.list", "/refit/read/catalog.list"):
        assert token not in json.dumps(server.call(path))
    assert not [line for line in browser.console if "refit" in line.lower()], browser.console
