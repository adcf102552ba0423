"""A web UI as small as can be, with the extension's accordion, tab, settings and routes, on the fake sidecar. Run by the tests in the Python of each Gradio.

argv[1]: JSON with models, port, and optionally gradio (false: as with --nowebui), gradio_auth, api_auth, options, subpath. One JSON object a line on stdin makes
something happen: {"view": ...}, {"event": ...}, {"run": ...}, {"kill": true}.
"""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PLUGIN = HERE.parents[5] / "plugin"
sys.path[:0] = [str(HERE), str(HERE.parents[2]), str(PLUGIN)]

import web_ui  # noqa: E402
from fake_sidecar import FakeClient  # noqa: E402
from page_sidecar import PageSidecar  # noqa: E402


def main(given: dict[str, Any]) -> None:
    arguments = {"api_auth": given.get("api_auth"), "lora_dir": None, "ckpt_dir": None, "refit_sidecar": given.get("refit_sidecar", False)}
    callbacks = web_ui.install(Path(given["models"]), given.get("options", {}), arguments)
    if not given.get("gradio", True):
        web_ui.stub_gradio()
    from refit_sidecar_plugin.ui.webui import plugin as plugin_module

    client = FakeClient(PageSidecar())
    plugin_module.SidecarClient = lambda *_: client
    from refit_sidecar_plugin.ui.webui import ui

    service = plugin_module.plugin()
    service.run_in_background()
    ui.register()
    for callback in callbacks.kept["on_ui_settings"]:
        callback()
    threading.Thread(target=_follow_stdin, args=(service, client), daemon=True).start()
    if given.get("gradio", True):
        _serve_page(given, callbacks, ui)
    else:
        _serve_api(given, callbacks)


def _serve_api(given: dict[str, Any], callbacks: web_ui.Callbacks) -> None:
    import uvicorn
    from fastapi import FastAPI

    app = FastAPI()
    for callback in callbacks.kept["on_app_started"]:
        callback(None, app)
    uvicorn.run(app, host="127.0.0.1", port=given["port"], log_level="warning")


def _serve_page(given: dict[str, Any], callbacks: web_ui.Callbacks, ui: Any) -> None:
    import gradio as gr

    _put_into_pages(gr)
    tabs = [tab for callback in callbacks.kept["on_ui_tabs"] for tab in callback()]
    theme = gr.themes.Default(font=["system-ui"], font_mono=["monospace"])
    with gr.Blocks(analytics_enabled=False, title="small web UI", theme=theme) as demo, gr.Tabs(elem_id="tabs"):
        for name in ("txt2img", "img2img"):
            with gr.Tab(name, elem_id=f"tab_{name}"):
                components = ui.build_panel(name == "img2img")
                shown = gr.Textbox(label="arguments", elem_id=f"arguments_{name}")
                gr.Button("Generate", elem_id=f"generate_{name}").click(
                    lambda *values: json.dumps(values), inputs=components, outputs=[shown]
                )
        for blocks, title, elem_id in tabs:
            with gr.Tab(title, elem_id=f"tab_{elem_id}"):
                blocks.render()
    auth = tuple(given["gradio_auth"].split(":")) if given.get("gradio_auth") else None
    app, _, _ = demo.queue().launch(
        server_name="127.0.0.1",
        server_port=given["port"],
        prevent_thread_lock=True,
        quiet=True,
        auth=auth,
        allowed_paths=[str(PLUGIN)],
        show_api=False,
    )
    for callback in callbacks.kept["on_app_started"]:
        callback(demo, app)
    print("ready", flush=True)
    threading.Event().wait()


def _put_into_pages(gr: Any) -> None:
    """What both UIs do with an extension's `javascript/` and `style.css` (modules/ui_gradio_extensions.py)."""
    original = gr.routes.templates.TemplateResponse
    scripts = "".join(f'<script type="module" src="file={path}"></script>' for path in sorted((PLUGIN / "javascript").iterdir()))
    style = f'<link rel="stylesheet" property="stylesheet" href="file={PLUGIN / "style.css"}">'

    def response(*given: Any, **named: Any) -> Any:
        made = original(*given, **named)
        made.body = made.body.replace(b"</head>", f"{scripts}</head>".encode()).replace(b"</body>", f"{style}</body>".encode())
        made.init_headers()
        return made

    gr.routes.templates.TemplateResponse = response


def _follow_stdin(service: Any, client: FakeClient) -> None:
    from refit_sidecar_plugin.service import LastRun

    for line in sys.stdin:
        wish = json.loads(line)
        if "view" in wish:
            service.status.update(**wish["view"])
        if "event" in wish:
            service.facts.happened({"at": "2026-01-01T00:00:00Z", "atMs": 0, "event": wish["event"]})
        if "run" in wish:
            service.facts.ran(LastRun(**wish["run"]))
        if "kill" in wish:
            client.kill()


main(json.loads(sys.argv[1]))
