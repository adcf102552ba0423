"""Somebody who has never seen the project: a fresh root, the commands of the quick start, a browser, and a picture on an engine in four steps.

Makes the pictures of README.md and docs/use/quick-start.md: `REFIT_PICTURES=docs/pictures` keeps them. The checkpoint is tiny and random, so the picture
is noise. Runs on the frontend in REFIT_FRONTEND, else on the one of ComfyUI's requirements.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from browser import Browser, chromium
from comfy_server import REPO, ComfyServer, comfy_python, kept, make_models

pytestmark = pytest.mark.skipif(chromium() is None, reason="no Chromium on PATH; set CHROMIUM to one")

QUICK_START = REPO / "docs/use/quick-start.md"
PANEL = "document.querySelector('.refit-panel')"
# A checkpoint as people have them: UNet, text encoder and VAE in one file. The VAE is random, and scaled so that its pictures have all tones. Run with ComfyUI's Python.
WHOLE = """
import os, sys, torch
sys.argv, (parts, out) = [sys.argv[0], "--cpu"], sys.argv[1:]
sys.path.insert(0, os.environ["COMFYUI_DIR"])
import comfy.options
comfy.options.enable_args_parsing()
from comfy.taesd.taesd import TAESD
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel
torch.manual_seed(5)
config = CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12)
clip = {f"cond_stage_model.transformer.{key}": value for key, value in CLIPTextModel(config).state_dict().items() if not key.endswith("position_ids")}
clip = {key if ".text_model." in key else key.replace("transformer.", "transformer.text_model."): value for key, value in clip.items()}
vae, latents = TAESD(), 3 * torch.randn(1, 4, 32, 32)
with torch.no_grad():
    # ComfyUI's classes are made without values.
    for value in vae.parameters():
        torch.nn.init.kaiming_normal_(value) if value.ndim == 4 else value.zero_()
    last = [one for one in vae.taesd_decoder.modules() if isinstance(one, torch.nn.Conv2d)][-1]
    last.weight.div_(4 * vae.taesd_decoder(latents).std())
    last.bias.add_(0.5 - vae.taesd_decoder(latents).mean((0, 2, 3)))
vae = {f"first_stage_model.{key}": value for key, value in vae.state_dict().items() if key.startswith("taesd_")}
whole = {**load_file(parts), **{key: value.half().contiguous() for key, value in {**clip, **vae}.items()}}
save_file(whole, out)
"""
#: A user's workflow, as ComfyUI saves it for its API; the frontend lays it out.
WORKFLOW = {
    "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "my-model.safetensors"}},
    "2": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 1], "text": "a drawing in ink"}},
    "3": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 1], "text": "blurry"}},
    "4": {"class_type": "EmptyLatentImage", "inputs": {"width": 256, "height": 256, "batch_size": 1}},
    "5": {
        "class_type": "KSampler",
        "inputs": {
            "model": ["1", 0], "positive": ["2", 0], "negative": ["3", 0], "latent_image": ["4", 0],
            "seed": 7, "steps": 4, "cfg": 6.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0,
        },
    },
    "6": {"class_type": "VAEDecode", "inputs": {"samples": ["5", 0], "vae": ["1", 2]}},
    "7": {"class_type": "SaveImage", "inputs": {"images": ["6", 0], "filename_prefix": "picture"}},
}  # fmt: skip


def commands() -> list[str]:
    """What the quick start says to type, with this checkout in place of a release."""
    block = re.search(r"```\n(pip install .+?)```", QUICK_START.read_text("utf-8"), re.S)
    assert block, "docs/use/quick-start.md has no block that begins with `pip install`"
    _, *rest = block[1].strip().splitlines()
    return rest


@pytest.fixture(scope="module")
def newcomer(tmp_path_factory):
    """A folder that the user's ComfyUI works in, with one checkpoint and nothing else; the plugin comes by the commands of the page."""
    root = kept("newcomer", tmp_path_factory.mktemp)
    base = root / "ComfyUI"
    for folder in ("custom_nodes", "models/checkpoints", "models/loras"):
        (base / folder).mkdir(parents=True, exist_ok=True)
    whole = base / "models/checkpoints/my-model.safetensors"
    if not whole.exists():
        make_models(root / "parts", "sd15_tiny")
        subprocess.run([comfy_python(), "-c", WHOLE, str(root / "parts/checkpoints/sd15_tiny.safetensors"), str(whole)], check=True)
        (base / "models/loras/ink.safetensors").write_bytes((root / "parts/loras/style.safetensors").read_bytes())
    program = f"{REPO / 'sidecar/bin/refit-sidecar.mjs'}"
    for line in commands():
        line = line.replace("refit-sidecar ", f"node {program} ", 1).replace("/path/to/ComfyUI", str(base))
        done = subprocess.run(line, shell=True, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr + done.stdout
    assert (base / "custom_nodes/refit-sidecar/__init__.py").is_file()
    data = tmp_path_factory.mktemp("data")
    environment = {"REFIT_DATA_DIR": str(data), "REFIT_PYTHON": os.environ.get("REFIT_TEST_PYTHON", sys.executable), "OMP_NUM_THREADS": "1"}
    frontend = os.environ.get("REFIT_FRONTEND")
    server = ComfyServer(base, environment=environment, plugin=False, arguments=["--front-end-root", frontend] if frontend else []).ready()
    browser = Browser(1640, 900)
    try:
        yield server, browser
    finally:
        browser.close()
        server.stop()
        # The sidecar that the plugin started outlives the UI.
        note = data / "sidecar.json"
        if note.exists():
            os.kill(json.loads(note.read_text("utf-8"))["pid"], signal.SIGTERM)


# The message of any frontend: what holds its title and a button to close it.
WITHOUT_VERSIONS = """{
  const titles = [...document.querySelectorAll("body *")].filter((one) => !one.children.length && one.textContent.trim() === "Version Compatibility Warning");
  for (const title of titles) {
    let whole = title;
    while (!whole.querySelector("button") && whole.parentElement !== document.body) whole = whole.parentElement;
    const frame = whole.parentElement;
    whole.remove();
    if (frame.innerText.trim() === "") frame.remove();
  }
} true"""


def shot(browser: Browser, name: str) -> None:
    folder = os.environ.get("REFIT_PICTURES")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        # What a test's ComfyUI says of its own packages is no part of the steps.
        browser.evaluate(WITHOUT_VERSIONS)
        browser.screenshot(Path(folder) / f"{name}.png")


def dismiss(browser: Browser) -> None:
    """A first visit shows templates over everything."""
    for _ in range(3):
        for kind in ("keyDown", "keyUp"):
            browser.send("Input.dispatchKeyEvent", type=kind, key="Escape", code="Escape", windowsVirtualKeyCode=27)
    browser.until("document.querySelectorAll('[role=dialog]').length === 0")


# Nodes in columns at full size, so that a reader of the pictures can read them.
TIDY = """
(async () => {
  const settings = window.app.extensionManager.setting;
  await settings.set('Comfy.Minimap.Visible', false);
  await settings.set('LiteGraph.Canvas.MinFontSizeForLOD', 0);
  const places = { CheckpointLoaderSimple: [0, 0], RefitLoadEngine: [0, 0], EmptyLatentImage: [0, 260], KSampler: [720, 0], VAEDecode: [1040, 0], SaveImage: [1040, 110] };
  let texts = 0;
  for (const node of window.app.graph._nodes) {
    if (node.comfyClass === 'CLIPTextEncode') { node.pos = [340, 220 * texts++]; node.size = [330, 160]; }
    else node.pos = places[node.comfyClass] ?? node.pos;
    if (node.comfyClass === 'SaveImage') node.size = [300, 330];
  }
  const canvas = window.app.canvas;
  canvas.ds.scale = 0.82;
  canvas.ds.offset = [500, 170];
  canvas.setDirty(true, true);
  await new Promise((drawn) => setTimeout(drawn, 1500));
  // ComfyUI tells what its own packages lack; that is no part of the story.
  for (const button of document.querySelectorAll('.p-toast-close-button')) button.click();
  await new Promise((drawn) => setTimeout(drawn, 800));
  return true;
})()
"""


def open_workflow(browser: Browser, workflow: dict) -> None:
    """Opens it and looks again: on a first visit the frontend may still put its own in its place."""
    kinds = sorted(node["class_type"] for node in workflow.values())
    for _ in range(5):
        browser.evaluate(f"Promise.resolve(window.app.loadApiJson({json.dumps(workflow)}, 'my workflow')).then(() => true)")
        browser.evaluate("new Promise((waited) => setTimeout(() => waited(true), 3000))")
        if browser.evaluate("window.app.graph._nodes.map((node) => node.comfyClass).sort()") == kinds:
            return
    raise AssertionError("the frontend keeps putting its own workflow in the place of ours")


def settle(browser: Browser) -> None:
    browser.evaluate(TIDY)


def test_from_install_to_a_picture_on_an_engine_in_four_steps(newcomer):
    server, browser = newcomer
    # Else a first visit opens a tutorial's workflow, on a slow computer after ours.
    server.call("/settings/Comfy.TutorialCompleted", True)
    browser.open(f"http://127.0.0.1:{server.port}/")
    browser.until("!!window.app?.extensionManager?.getSidebarTabs?.().some((tab) => tab.id === 'refit-sidecar')", 120)
    # ComfyUI opens a workflow of its own some time after its page; what is opened before that is lost.
    browser.until("!!window.app.graph && window.app.graph._nodes.length > 0", 120)
    dismiss(browser)
    # 1. Installed: the tab is there, and the plugin starts the sidecar by itself.
    browser.evaluate("window.app.extensionManager.command.execute('Workspace.ToggleSidebarTab.refit-sidecar')?.then?.(() => true) ?? true")
    browser.until(f"!!{PANEL}")
    browser.until(f"{PANEL}.textContent.includes('onnected')", 120)
    dismiss(browser)
    open_workflow(browser, WORKFLOW)
    settle(browser)
    shot(browser, "newcomer-1")
    # 2. The workflow has Load Checkpoint, as any that a user has.
    assert browser.evaluate("window.app.graph._nodes.some((node) => node.comfyClass === 'CheckpointLoaderSimple')")
    # 3. The command puts it on an engine.
    browser.evaluate("window.app.extensionManager.command.execute('Refit.UseEngines').then?.(() => true) ?? true")
    browser.until("window.app.graph._nodes.some((node) => node.comfyClass === 'RefitLoadEngine')")
    assert not browser.evaluate("window.app.graph._nodes.some((node) => node.comfyClass === 'CheckpointLoaderSimple')")
    settle(browser)
    shot(browser, "newcomer-3")
    # 4. Run.
    browser.evaluate("window.app.extensionManager.command.execute('Comfy.QueuePrompt')?.then?.(() => true) ?? true")
    browser.until("fetch('/refit/facts').then((reply) => reply.json()).then((facts) => facts.lastRun)", 500)
    browser.until(
        "fetch('/history').then((reply) => reply.json()).then((all) => Object.values(all).some((one) => one.status.completed))", 120
    )
    last = server.call("/refit/facts")["lastRun"]
    assert last["served_by"] == "engine", json.dumps(last)
    (entry,) = server.call("/history").values()
    assert entry["status"]["status_str"] == "success"
    pictures = [picture for output in entry["outputs"].values() for picture in output.get("images", [])]
    assert len(pictures) == 1
    browser.until(f"{PANEL}.textContent.includes('on an engine')", 60)
    settle(browser)
    shot(browser, "newcomer-4")
