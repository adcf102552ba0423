"""A card that another MODEL fills, as far as ComfyUI's own rules for making room go: which runs take memory from it."""

import weakref

import comfy.model_management as management
import comfy.patcher_extension
import torch

CARD = torch.device("cuda", 0)
PREPARE = comfy.patcher_extension.WrappersMP.PREPARE_SAMPLING


class Filling:
    """A dynamic model of 6 GB on the card."""

    parent, load_device, offload_device = None, CARD, torch.device("cpu")

    def __init__(self):
        self.model, self.taken = torch.nn.Module(), 0
        self.model.dynamic_pins = {CARD: {"active": False, "current_prompt": False}}

    def is_dynamic(self):
        return True

    def model_size(self):
        return 6 << 30

    def loaded_size(self):
        return self.model_size()

    def partially_unload(self, _device, wanted):
        self.taken += wanted
        return wanted


def taken(models):
    """Bytes that ComfyUI takes from the other MODEL when these are to be loaded. It spares dynamic models for dynamic ones alone."""
    other = Filling()
    loaded = management.LoadedModel(other)
    loaded.real_model = weakref.ref(other.model)
    own = management.get_free_memory
    management.get_free_memory = lambda *_given, torch_free_too=False, **_named: (0, 0) if torch_free_too else 0
    management.current_loaded_models.append(loaded)
    try:
        management.free_memory(management.minimum_inference_memory(), CARD, for_dynamic=all(model.is_dynamic() for model in models))
    finally:
        management.get_free_memory = own
        management.current_loaded_models.remove(loaded)
    return int(other.taken)


class TestCrowded:
    """Prints what a run's loading would take from another MODEL."""

    CATEGORY, FUNCTION, RETURN_TYPES = "refit-tests", "patch", ("MODEL",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("MODEL",), "label": ("STRING", {"default": ""})}}

    def patch(self, model, label):
        clone = model.clone()

        def prepare(executor, patcher, *args, **kwargs):
            load = management.load_models_gpu

            def watched(models, *given, **named):
                print(f"crowded {label}: {taken(models)} bytes", flush=True)
                return load(models, *given, **named)

            management.load_models_gpu = watched
            try:
                return executor(patcher, *args, **kwargs)
            finally:
                management.load_models_gpu = load

        clone.add_wrapper_with_key(PREPARE, "crowded", prepare)
        return (clone,)
