"""Stacks read off a MODEL: whole files are recognised by where their tensors came from, without opening them again; everything else by value."""

from __future__ import annotations

import gc
import types
import uuid
import weakref

import comfy_fakes
import pytest

torch = pytest.importorskip("torch")
comfy_fakes.install()

import comfy.lora  # noqa: E402
import comfy.lora_convert  # noqa: E402
import comfy.utils  # noqa: E402
import comfy.weight_adapter  # noqa: E402
import folder_paths  # noqa: E402
from refit_sidecar_plugin.stack import ContentItem, FileItem, targets_digest  # noqa: E402
from refit_sidecar_plugin.ui.comfyui.patches import read_patches  # noqa: E402
from refit_sidecar_plugin.ui.comfyui.stack_reader import KEPT_READINGS, StackReader  # noqa: E402
from refit_sidecar_plugin.ui.denoising import NotServed  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

LAYERS = ("first", "second", "third")


class Adapter(comfy.weight_adapter.WeightAdapterBase):
    name = "lora"

    def __init__(self, weights):
        self.weights = weights


class Ui:
    """ComfyUI's loaders on one folder, counting what they read."""

    def __init__(self, folder, monkeypatch) -> None:
        self.folder, self.opened, self.interpreted = folder, [], 0
        monkeypatch.setattr(comfy.utils, "load_torch_file", self._load)
        monkeypatch.setattr(comfy.lora, "load_lora", self._interpret)
        monkeypatch.setattr(comfy.lora, "model_lora_keys_unet", lambda model, names: {**names, **self._names()})
        monkeypatch.setattr(comfy.lora_convert, "convert_lora", lambda tensors: tensors)
        monkeypatch.setattr(folder_paths, "get_folder_paths", lambda kind: [str(folder)])
        monkeypatch.setattr(folder_paths, "get_full_path", lambda kind, name: str(folder / name) if (folder / name).is_file() else None)
        module = types.SimpleNamespace(state_dict=lambda: {f"{layer}.weight": None for layer in LAYERS})
        self.model = type("Model", (), {})()
        self.model.diffusion_model = module
        self.reader = StackReader()
        self.reader.follow_loaders()

    @staticmethod
    def _names():
        return {f"lora_unet_{layer}": f"diffusion_model.{layer}.weight" for layer in LAYERS}

    def _load(self, path, safe_load=False):
        self.opened.append(path)
        return load_file(path)

    def _interpret(self, tensors, names, log_missing=True):
        self.interpreted += 1
        return {
            parameter: Adapter(
                (tensors[f"{stem}.lora_up.weight"], tensors[f"{stem}.lora_down.weight"], tensors[f"{stem}.alpha"].item(), None, None, None)
            )
            for stem, parameter in names.items()
            if f"{stem}.lora_up.weight" in tensors
        }

    def file(self, name, seed, layers=LAYERS):
        torch.manual_seed(seed)
        parts = {
            "lora_up.weight": lambda: torch.randn(64, 4),
            "lora_down.weight": lambda: torch.randn(4, 64),
            "alpha": lambda: torch.tensor(2.0),
        }
        save_file({f"lora_unet_{layer}.{part}": make() for layer in layers for part, make in parts.items()}, self.folder / name)
        return name

    def loaded(self, name):
        """As LoraLoader does."""
        tensors = comfy.utils.load_torch_file(str(self.folder / name), safe_load=True)
        return comfy.lora.load_lora(comfy.lora_convert.convert_lora(tensors), {**self._names(), "lora_te_x": "clip.x"})

    def patcher(self, *stack):
        patches: dict[str, list] = {}
        for loaded, strength in stack:
            for key, adapter in loaded.items():
                patches.setdefault(key, []).append((strength, adapter, 1.0, None, None))
        return types.SimpleNamespace(
            model=self.model,
            patches=patches,
            patches_uuid=uuid.uuid4(),
            injections={},
            model_state_dict=lambda: set(self._names().values()),
        )

    def read(self, *stack, hints=()):
        self.opened, self.interpreted = [], 0
        return self.reader.read(self.patcher(*stack), list(hints), lambda patch: None)


def items(reading):
    return [(item.name, item.strength) if isinstance(item, FileItem) else (len(item.patches), item.strength) for item in reading.items]


@pytest.fixture
def ui(tmp_path, monkeypatch):
    return Ui(tmp_path, monkeypatch)


def test_whole_files_are_recognised_without_opening_or_interpreting_them_again(ui):
    one, two = (ui.loaded(ui.file(f"{name}.safetensors", seed)) for name, seed in (("a", 1), ("b", 2)))
    reading = ui.read((one, 0.5), (two, -1.0))
    assert items(reading) == [("a.safetensors", 0.5), ("b.safetensors", -1.0)]
    assert ui.opened == [] and ui.interpreted == 0
    assert [item.sha256 for item in reading.items] == [
        ui.reader._identities.sha256(str(ui.folder / f"{name}.safetensors")) for name in "ab"
    ]
    other = ui.read((two, 0.25), (one, 0.5))
    assert items(other) == [("b.safetensors", 0.25), ("a.safetensors", 0.5)] and ui.opened == []


def test_a_recognised_file_has_the_patches_and_the_targets_that_a_comparison_would_give(ui):
    loaded = ui.loaded(ui.file("a.safetensors", 1, LAYERS[:2]))
    (item,) = ui.read((loaded, 0.5)).items
    live = [patch for entries in read_patches(ui.patcher((loaded, 0.5)).patches, ui.reader._digests).values() for patch in entries]
    assert list(item.patches) == live and item.targets == targets_digest(live)
    assert [part.read() for _, part in item.patches[0].parts[:2]] == [
        value.numpy().tobytes() for value in loaded["diffusion_model.first.weight"].weights[:2]
    ]


def test_a_file_that_stands_there_twice_is_two_items(ui):
    loaded = ui.loaded(ui.file("a.safetensors", 1))
    assert items(ui.read((loaded, 0.5), (loaded, 0.25))) == [("a.safetensors", 0.5), ("a.safetensors", 0.25)]
    assert items(ui.read((loaded, 0.5), (loaded, 0.5))) == [("a.safetensors", 0.5), ("a.safetensors", 0.5)]
    assert ui.opened == []


def test_a_file_in_part_goes_by_content(ui):
    loaded = ui.loaded(ui.file("a.safetensors", 1))
    assert items(ui.read(({key: loaded[key] for key in list(loaded)[:2]}, 0.5))) == [(2, 0.5)]
    patcher = ui.patcher((loaded, 0.5))
    key = next(iter(patcher.patches))
    patcher.patches[key] = [(0.25, *patcher.patches[key][0][1:])]
    reading = ui.reader.read(patcher, [], lambda patch: None)
    assert sorted(items(reading)) == [(1, 0.25), (2, 0.5)]


def test_a_merge_of_models_is_named_whatever_else_there_is(ui):
    patcher = ui.patcher((ui.loaded(ui.file("a.safetensors", 1)), 0.5))
    patcher.patches["diffusion_model.third.weight"].append((0.5, (torch.ones(64, 64),), 0.5, None, None))
    with pytest.raises(NotServed, match="a model merge"):
        ui.reader.read(patcher, [], lambda patch: None)
    patcher.patches["diffusion_model.third.weight"][-1] = (0.5, ("unheard", ()), 1.0, None, None)
    with pytest.raises(NotServed, match="a patch on third.weight that no adapter file holds"):
        ui.reader.read(patcher, [], lambda patch: None)


def test_two_files_in_opposite_order_on_two_layers_keep_the_order_of_each_layer(ui):
    one, two = (ui.loaded(ui.file(f"{name}.safetensors", seed)) for name, seed in (("a", 1), ("b", 2)))
    patcher = ui.patcher((one, 0.5), (two, 0.75))
    patcher.patches["diffusion_model.first.weight"].reverse()
    reading = ui.reader.read(patcher, [], lambda patch: None)
    assert any(isinstance(item, ContentItem) for item in reading.items) and any(isinstance(item, FileItem) for item in reading.items)
    for item in reading.items:
        assert all(len(part.read()) for patch in item.patches for _, part in patch.parts[:2])
    order = [item.strength for item in reading.items if any(patch.target.parameter == "first.weight" for patch in item.patches)]
    assert order == [0.75, 0.5]


@pytest.mark.parametrize("change", ["a value", "alpha", "another tensor"])
def test_what_somebody_changed_is_never_taken_for_the_file(ui, change):
    loaded = ui.loaded(ui.file("a.safetensors", 1))
    assert items(ui.read((loaded, 0.5))) == [("a.safetensors", 0.5)]
    adapter = loaded["diffusion_model.second.weight"]
    up, down, alpha, *rest = adapter.weights
    if change == "a value":
        with torch.inference_mode():
            up.mul_(2)
    else:
        adapter.weights = (up, down, alpha * 2, *rest) if change == "alpha" else (up.clone() * 2, down, alpha, *rest)
    assert items(ui.read((loaded, 0.5), hints=["a.safetensors"])) == [(3, 0.5)]


def test_a_file_that_is_replaced_is_read_again(ui):
    loaded = ui.loaded(ui.file("a.safetensors", 1))
    before = ui.read((loaded, 0.5)).items[0].sha256
    ui.file("a.safetensors", 9)
    reading = ui.read((loaded, 0.5), hints=["a.safetensors"])
    # The newest content stands in its place.
    assert items(reading) == [("a.safetensors", 0.5)] and reading.items[0].sha256 != before and ui.opened
    assert items(ui.read((ui.loaded("a.safetensors"), 0.5))) == [("a.safetensors", 0.5)]


def test_files_that_are_not_in_the_stack_are_not_opened_for_a_name_in_the_workflow(ui):
    loaded = ui.loaded(ui.file("a.safetensors", 1))
    other = ui.file("b.safetensors", 2)
    partly = {key: loaded[key] for key in list(loaded)[:2]}
    ui.read((loaded, 0.5), hints=[other, "a.safetensors"])
    assert ui.opened == []
    # By value, the file that the tensors came from is looked at first.
    assert items(ui.read((partly, 0.5), (loaded, 0.25), hints=[other])) == [(2, 0.5), ("a.safetensors", 0.25)]


def test_nothing_is_kept_alive_for_a_model_that_is_gone(ui):
    loaded = ui.loaded(ui.file("a.safetensors", 1))
    del loaded
    again = ui.loaded("a.safetensors")
    assert items(ui.read((again, 0.5))) == [("a.safetensors", 0.5)]


def test_tensors_under_other_names_are_not_the_file(ui):
    ui.file("a.safetensors", 1)
    tensors = comfy.utils.load_torch_file(str(ui.folder / "a.safetensors"))
    parts = ("lora_up.weight", "lora_down.weight", "alpha")
    swapped = {"first": "second", "second": "first", "third": "third"}
    renamed = {f"lora_unet_{layer}.{part}": tensors[f"lora_unet_{swapped[layer]}.{part}"] for layer in LAYERS for part in parts}
    assert items(ui.read((comfy.lora.load_lora(renamed, ui._names()), 0.5), hints=["a.safetensors"])) == [(3, 0.5)]


def test_what_was_changed_before_its_first_use_is_not_the_file(ui):
    loaded = ui.loaded(ui.file("a.safetensors", 1))
    with torch.inference_mode():
        loaded["diffusion_model.first.weight"].weights[0].mul_(2)
    assert items(ui.read((loaded, 0.5), hints=["a.safetensors"])) == [(3, 0.5)]


def test_a_load_with_fewer_names_than_the_model_has_is_not_the_file(ui):
    tensors = comfy.utils.load_torch_file(str(ui.folder / ui.file("a.safetensors", 1)))
    names = {name: key for name, key in ui._names().items() if "third" not in name}
    assert items(ui.read((comfy.lora.load_lora(tensors, names), 0.5), hints=["a.safetensors"])) == [(2, 0.5)]


def test_equal_layers_of_one_file_keep_their_places(ui):
    one, two = (ui.loaded(ui.file(f"{name}.safetensors", seed)) for name, seed in (("a", 1), ("b", 2)))
    first, second = "diffusion_model.first.weight", "diffusion_model.second.weight"
    exchanged = {**one, first: one[second], second: one[first]}
    reading = ui.read((exchanged, 0.5), (two, 0.5), hints=["a.safetensors"])
    assert items(reading) == [(3, 0.5), ("b.safetensors", 0.5)]


def test_loads_that_no_model_has_any_more_are_dropped(ui):
    name = ui.file("a.safetensors", 1)
    kept = ui.loaded(name)
    for _ in range(3):
        ui.loaded(name)
    assert len(ui.reader._applied._loads) <= 2
    assert items(ui.read((kept, 0.5))) == [("a.safetensors", 0.5)] and ui.opened == []
    held = [ui.loaded(name) for _ in range(40)]
    assert len(ui.reader._applied._loads) == 32 and len(ui.reader._applied._slots) == 32 * len(LAYERS)
    assert items(ui.read((held[-1], 0.5), (held[-2], 0.25))) == [("a.safetensors", 0.5), ("a.safetensors", 0.25)] and ui.opened == []


def test_the_tensors_of_earlier_stacks_are_let_go(ui):
    held = []
    for seed in range(1, 11):
        loaded = ui.loaded(ui.file(f"{seed}.safetensors", seed))
        assert items(ui.read((loaded, 0.5))) == [(f"{seed}.safetensors", 0.5)]
        held.append(weakref.ref(next(iter(loaded.values())).weights[0]))
        del loaded
    gc.collect()
    assert sum(tensor() is not None for tensor in held) <= KEPT_READINGS
