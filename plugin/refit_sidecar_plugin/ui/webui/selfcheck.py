"""What the plugin needs of a web UI, tried inside that UI's own Python without starting it: `python -m refit_sidecar_plugin.ui.webui.selfcheck DIR`.

Prints one JSON object: what the UI is, and rows that pass, fail or say why they could not be tried. No path and no file name of the user's is in it.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import platform
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ...families import family_calls
from ..source_facts import Source, compatible

RECORDED = Path(__file__).with_name("recorded.json")
#: Folder of the UI -> name of its record.
BY_FOLDER = (("ldm_patched", "reForge"), ("modules_forge", "Forge"), ("modules", "A1111"))
WIDTH = 8


class NotTried(Exception):
    """A check that this UI gives no ground for."""


def name_of(root: Path) -> str:
    version = root / "modules_forge/forge_version.py"
    if version.is_file() and re.search(r"^version\s*=\s*[\"']neo[\"']", version.read_text("utf-8"), re.M):
        return "Forge Neo"
    return next((name for folder, name in BY_FOLDER if (root / folder).is_dir()), "A1111")


def about(root: Path, name: str) -> dict[str, str]:
    version = root / "modules_forge/forge_version.py"
    release = re.findall(r"^(?:version|release)\s*=\s*[\"']([^\"']+)", version.read_text("utf-8"), re.M) if version.is_file() else []
    head = root / ".git/HEAD"
    reference = head.read_text("utf-8").strip().removeprefix("ref: ") if head.is_file() else ""
    commit = root / ".git" / reference
    found = {"ui": name, "release": " ".join(release), "python": platform.python_version()}
    if reference and commit.is_file():
        found["commit"] = commit.read_text("utf-8").strip()
    for package in ("torch", "gradio"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def recorded_names(root: Path, name: str) -> str:
    """Every name that the plugin takes from the UI, against its source."""
    record = record_of(name)
    wrong: list[str] = []
    # One for each folder: it reads every file once.
    sources: dict[str, Source] = {}
    count = 0
    for folder, dotted, wanted in everything(record):
        count += 1
        try:
            found = look_up(sources.setdefault(folder, Source(root / folder, marks=False)), dotted)
        except (AssertionError, OSError, SyntaxError):
            found = None
        if not compatible(wanted, found):
            wrong.append(f"{dotted}: expected {shown(wanted)}, found {shown(found)}")
    if wrong:
        raise AssertionError("; ".join(wrong))
    return f"{count} names, with their parameters"


def record_of(name: str) -> dict[str, Any]:
    """What is recorded of a UI; how it calls its models stands in their families' descriptions."""
    record = json.loads(RECORDED.read_text("utf-8"))[name]
    models = {owner: {"forward": by_ui[name]} for call in family_calls() for owner, by_ui in call.recorded.items() if name in by_ui}
    methods = record["methods"]
    return {**record, "methods": {**methods, "": {**methods[""], **models}}}


def everything(record: dict[str, Any]) -> Iterator[tuple[str, str, object]]:
    for dotted, wanted in record["names"].items():
        yield "", dotted, wanted
    for folder, names in record["others"].items():
        for dotted, wanted in names.items():
            yield folder, dotted, wanted
    for folder, owners in record["methods"].items():
        for owner, names in owners.items():
            for method, wanted in names.items():
                yield folder, f"{owner}.{method}", wanted


def look_up(source: Source, dotted: str) -> object | None:
    owner, leaf = dotted.rsplit(".", 1)
    return source.method(owner, leaf) if owner.rsplit(".", 1)[-1][0].isupper() else source.describe(dotted)


def shown(described: object) -> str:
    return f"({', '.join(described)})" if isinstance(described, list) else "nothing" if described is None else "a name"


class Trial:
    """The UI's own patcher, LoRA loader and memory manager on a model of one layer."""

    def __init__(self) -> None:
        import torch

        self.torch = torch
        self.manager = importlib.import_module("backend.memory_management")
        self.model = self._model()
        patcher = importlib.import_module("backend.patcher.unet").UnetPatcher
        device, offload = self.manager.get_torch_device(), torch.device("cpu")
        self.own = patcher(self.model, load_device=device, offload_device=offload, current_device=offload)
        self.weight = self.layer.weight.detach().clone()

    def _model(self) -> Any:
        from .forge.loading import _settings

        torch = self.torch

        class Layer(torch.nn.Module):
            """In the place of a UNet: its answer tells whether it was this module that was asked."""

            def __init__(self) -> None:
                super().__init__()
                self.middle = torch.nn.Linear(WIDTH, WIDTH, bias=False).requires_grad_(False)
                self.storage_dtype = self.computation_dtype = torch.float32
                self.config = {}

            def forward(self, x: Any, *_arguments: Any, **_named: Any) -> Any:
                return x * 10

        predictor = SimpleNamespace(
            calculate_input=lambda sigma, x: x,
            timestep=lambda sigma: sigma,
            calculate_denoised=lambda sigma, output, x: output,
        )
        config = SimpleNamespace(memory_usage_factor=1.0, unet_config={}, nunchaku=False)
        settings = _settings()
        # Neo's loader has noted the layers' class before it makes a KModel of them.
        if settings is not None and getattr(settings, "ops", "") is None:
            settings.ops = "ForgeOperations"
        made = importlib.import_module("backend.modules.k_model").KModel(Layer(), None, k_predictor=predictor, config=config)
        made.model_config = config
        return made

    @property
    def layer(self) -> Any:
        return self.model.diffusion_model.middle

    def add_lora(self) -> Any:
        """A low-rank change of the layer, by the UI's own way of adding patches. Returns the change."""
        torch = self.torch
        up, down = torch.rand(WIDTH, 2), torch.rand(2, WIDTH)
        with tempfile.TemporaryDirectory() as folder:
            from safetensors.torch import load_file, save_file

            file = str(Path(folder) / "lora.safetensors")
            names = {"lora_unet_middle.lora_up.weight": up, "lora_unet_middle.lora_down.weight": down}
            save_file(names, file)
            loaded = importlib.import_module("backend.patcher.lora").load_lora(
                load_file(file), {"lora_unet_middle": "diffusion_model.middle.weight"}
            )
        patches = loaded[0] if isinstance(loaded, tuple) else loaded
        taken = self.own.add_patches(filename="lora", patches=patches, strength_patch=0.5, strength_model=1.0)
        if not taken:
            raise AssertionError("the UI's loader took none of the LoRA's layers")
        return 0.5 * up @ down

    def load(self, patcher: Any) -> Any:
        """The layer's weight after the UI's memory manager has loaded this patcher."""
        self.manager.load_models_gpu([patcher], memory_required=0)
        # Forge merges when the sampler starts.
        if hasattr(patcher, "refresh_loras"):
            patcher.refresh_loras()
        return self.layer.weight.detach().cpu().clone()


def patcher_without_adapters(trial: Trial) -> str:
    from .forge.patcher import _patches_name, without_adapters

    trial.add_lora()
    name, held = _patches_name(trial.own), len(getattr(trial.own, _patches_name(trial.own)))
    bare = without_adapters(trial.own)
    assert getattr(bare, name) == {}, "the clone still has the LoRA"
    assert len(getattr(trial.own, name)) == held == 1, "the UI's own patcher lost its LoRA"
    return f"LoRAs are kept in `{name}`"


def weights_come_and_go(trial: Trial) -> str:
    """The UI's weights with its LoRA, then off the device without it, then with it again: as in a run that an engine serves and one that it does not."""
    from .forge.memory import bring_back, keep_off_device
    from .forge.patcher import with_adapters_of, without_adapters

    torch = trial.torch
    change = trial.add_lora()
    merged = trial.load(trial.own)
    assert torch.allclose(merged, trial.weight + change, atol=1e-3), "the UI's own merge is not what a LoRA says"
    bare = without_adapters(trial.own)
    keep_off_device(bare)
    assert torch.equal(trial.load(bare), trial.weight), "the weights are not the checkpoint's when the LoRA is taken off"
    assert trial.layer.weight.device.type == "cpu", "the UI's own weights stay on the device while an engine serves"
    again = with_adapters_of(bare, trial.own)
    bring_back(again, torch.Size((1, 4, 8, 8)))
    assert torch.equal(trial.load(again), merged), "the weights with the LoRA do not come back as they were"
    return "merged, taken off, merged again: equal bit for bit"


def model_stood_in(trial: Trial) -> str:
    """Another module in the model's place, for one call: the UI's own arithmetic around it goes on."""
    torch = trial.torch
    x, sigma = torch.ones(1, 4, 8, 8), torch.ones(1)
    own = trial.model.diffusion_model
    assert torch.equal(trial.model.apply_model(x, sigma, c_crossattn=torch.zeros(1, 1, WIDTH)), x * 10)

    class StandIn(torch.nn.Module):
        def forward(self, x: Any, *_arguments: Any, **_named: Any) -> Any:
            return x * 3

    trial.model.diffusion_model = StandIn()
    try:
        assert torch.equal(trial.model.apply_model(x, sigma, c_crossattn=torch.zeros(1, 1, WIDTH)), x * 3), "the model's place is not asked"
    finally:
        trial.model.diffusion_model = own
    return "asked in the model's place"


def wrapper_survives_a_clone(trial: Trial) -> str:
    class Wrapper:
        def __deepcopy__(self, _memo: dict) -> Wrapper:
            return self

    wrapper = Wrapper()
    trial.own.set_model_unet_function_wrapper(wrapper)
    assert trial.own.clone().model_options["model_function_wrapper"] is wrapper, "a clone has another wrapper"
    return "clones share it"


def storage_told(trial: Trial) -> str:
    from .forge.loading import _settings, refuse_storage

    if _settings() is None:
        raise NotTried("this UI has no dynamic_args")
    refuse_storage(trial.own)
    return "32-bit weights are taken as the file's own"


LIVE: tuple[tuple[str, str, Callable[[Trial], str]], ...] = (
    ("patcher", "a clone of the UNet's patcher without LoRAs", patcher_without_adapters),
    ("weights", "the UI's weights with a LoRA, without it, with it", weights_come_and_go),
    ("stand-in", "an engine in the model's place", model_stood_in),
    ("wrapper", "the function around the model", wrapper_survives_a_clone),
    ("storage", "how the weights are stored", storage_told),
)


def row(identity: str, title: str, work: Callable[[], str]) -> dict[str, str]:
    try:
        status, detail = "pass", work()
    except NotTried as why:
        status, detail = "skip", str(why)
    except AssertionError as error:
        status, detail = "fail", str(error) or "not as expected"
    except Exception as error:
        status, detail = "fail", f"{type(error).__name__}: {error}"
    return {"id": identity, "title": title, "status": status, "detail": detail}


def _has_card() -> bool:
    try:
        return bool(importlib.import_module("torch").cuda.is_available())
    except ModuleNotFoundError:
        return False


def check(root: Path) -> dict[str, Any]:
    name = name_of(root)
    rows = [row("names", "names that the plugin takes from the UI", lambda: recorded_names(root, name))]
    # The UI's arguments are read when its modules are imported: Forge's and Neo's words for a computer without a card.
    sys.argv = [sys.argv[0], *(() if _has_card() else ("--always-cpu", "--cpu"))]
    # As Forge's own start and Neo's do: packages that they bring stand in the second, and in the third.
    sys.path[:0] = [str(root), str(root / "packages_3rdparty"), str(root / "modules_forge" / "packages")]
    for identity, title, work in LIVE:
        if name in ("Forge", "Forge Neo"):
            rows.append(row(identity, title, lambda work=work: work(Trial())))
        else:
            rows.append({"id": identity, "title": title, "status": "skip", "detail": f"tried in Forge and Forge Neo; this is {name}"})
    return {"about": about(root, name), "rows": rows}


if __name__ == "__main__":
    # What a UI prints while it is imported is no part of the answer.
    answer, sys.stdout = sys.stdout, sys.stderr
    answer.write(json.dumps(check(Path(sys.argv[1]))) + "\n")
