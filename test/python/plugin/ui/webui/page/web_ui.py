"""Stand-ins for what the page half of the extension uses of A1111's and Forge's `modules`, and for Gradio where only the routes are wanted."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any


class OptionInfo:
    """As in modules.options, as far as settings use it."""

    def __init__(self, default: Any = None, label: str = "", component: Any = None, component_args: Any = None) -> None:
        self.default, self.label, self.component, self.component_args = default, label, component, component_args
        self.section: tuple[str, str] | None = None
        self.comment = ""

    def info(self, text: str) -> OptionInfo:
        self.comment += text
        return self

    def needs_reload_ui(self) -> OptionInfo:
        return self.info("requires Reload UI")


class Options:
    def __init__(self, data: dict[str, Any]) -> None:
        self.data, self.labels = data, {}

    def add_option(self, key: str, info: OptionInfo) -> None:
        self.labels[key] = info

    def __getattr__(self, key: str) -> Any:
        return self.data.get(key)


class Callbacks:
    def __init__(self) -> None:
        self.kept: dict[str, list[Any]] = {"on_ui_settings": [], "on_ui_tabs": [], "on_app_started": []}

    def __getattr__(self, name: str) -> Any:
        return self.kept[name].append


def install(models: Path, options: dict[str, Any], arguments: dict[str, Any]) -> Callbacks:
    """Puts the stand-ins into sys.modules; `models` has A1111's folders in it. For one process: there is no way back."""
    callbacks = Callbacks()
    checkpoints = {
        path.name: SimpleNamespace(name=path.name, title=f"{path.name} [0123]", filename=str(path))
        for path in (models / "Stable-diffusion").iterdir()
    }

    def closest(text: str) -> Any:
        return next((info for info in checkpoints.values() if text and text in info.title), None)

    members = {
        "shared": SimpleNamespace(opts=Options(options), cmd_opts=SimpleNamespace(**arguments), OptionInfo=OptionInfo),
        "paths_internal": SimpleNamespace(models_path=str(models)),
        "sd_models": SimpleNamespace(get_closet_checkpoint_match=closest),
        "script_callbacks": callbacks,
        "ui_components": SimpleNamespace(InputAccordion=_input_accordion),
    }
    modules = sys.modules["modules"] = types.ModuleType("modules")
    for name, member in members.items():
        setattr(modules, name, member)
        sys.modules[f"modules.{name}"] = member
    return callbacks


@contextmanager
def _input_accordion(value: bool, label: str, elem_id: str) -> Iterator[Any]:
    """A checkbox and an accordion; in modules.ui_components a script of the UI links the two and hides the checkbox."""
    import gradio as gr

    box = gr.Checkbox(value, label=label, elem_id=f"{elem_id}-checkbox")
    with gr.Accordion(label=label, elem_id=elem_id, open=True):
        box.extra = gr.Column
        yield box


def stub_gradio() -> None:
    """For Pythons without Gradio: enough to import what builds components."""
    sys.modules["gradio"] = types.ModuleType("gradio")
    sys.modules["gradio"].Dropdown = object
