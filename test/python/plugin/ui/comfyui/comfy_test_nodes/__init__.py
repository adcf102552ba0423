"""Nodes for the plugin's tests on a real ComfyUI: conditioning without a text encoder, latents written to a file, patches that an engine cannot do."""

import os
import uuid
from types import SimpleNamespace

import comfy.model_management
import comfy.patcher_extension
import torch

from . import small_widths as small_widths
from .controls import TestBlockControl, TestControl
from .crowded import TestCrowded

if os.environ.get("REFIT_TEST_BF16"):
    # ComfyUI does not compute in bf16 on a CPU by itself: it is slow there. On a card it does.
    comfy.model_management.should_use_bf16 = lambda *args, **kwargs: True


class TestConditioning:
    CATEGORY, FUNCTION, RETURN_TYPES = "refit-tests", "make", ("CONDITIONING",)

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "seed": ("INT", {"default": 0}),
                "tokens": ("INT", {"default": 77}),
                "width": ("INT", {"default": 768, "max": 8192}),
                "pooled": ("INT", {"default": 0, "max": 8192}),
            },
            "optional": {
                "t5_tokens": ("INT", {"default": 0, "max": 8192}),
                "seen": ("INT", {"default": 0, "max": 8192}),
                "layers": ("INT", {"default": 0}),
                "unprocessed": ("BOOLEAN", {"default": False}),
            },
        }

    def make(self, seed, tokens, width, pooled, t5_tokens=0, seen=0, layers=0, unprocessed=False):
        generator = torch.Generator().manual_seed(seed)
        extra = {"pooled_output": torch.randn(1, pooled, generator=generator)} if pooled else {}
        if t5_tokens:
            ids = torch.randint(0, 32000, (t5_tokens,), generator=generator, dtype=torch.int)
            extra |= {"t5xxl_ids": ids, "t5xxl_weights": torch.rand(t5_tokens, generator=generator) + 0.5}
        if layers:
            extra["conditioning_llama3"] = torch.randn(1, layers, tokens, width, generator=generator)
        if unprocessed:
            extra["unprocessed_ltxav_embeds"] = True
        if seen:
            extra["attention_mask"] = (torch.arange(tokens) < seen).long()[None]
        return ([[torch.randn(1, tokens, width, generator=generator), extra]],)


class TestLatent:
    """A random latent, as an encoded picture or a video's first frames would be."""

    CATEGORY, FUNCTION, RETURN_TYPES = "refit-tests", "make", ("LATENT",)

    @classmethod
    def INPUT_TYPES(cls):
        sizes = {name: ("INT", {"default": 1, "max": 8192}) for name in ("channels", "frames", "height", "width", "first_frames")}
        return {"required": {"seed": ("INT", {"default": 0}), **sizes}}

    def make(self, seed, channels, frames, height, width, first_frames):
        """`frames` 0: a picture. `first_frames`: so many are given, the others are to be made (Wan 2.2 5B)."""
        shape = [1, channels, *([frames] if frames else []), height, width]
        samples = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
        if not first_frames:
            return ({"samples": samples},)
        mask = torch.ones(1, 1, frames, height, width)
        mask[:, :, :first_frames] = 0
        return ({"samples": samples * (1 - mask), "noise_mask": mask},)


class TestVideoVAE:
    """What encodes pictures for LTX: random latents of the right sizes."""

    CATEGORY, FUNCTION, RETURN_TYPES = "refit-tests", "make", ("VAE",)
    downscale_index_formula = (8, 32, 32)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    def make(self):
        return (self,)

    def encode(self, pixels):
        frames, height, width = pixels.shape[:3]
        sizes = (1, 128, (frames - 1) // 8 + 1, height // 32, width // 32)
        return torch.randn(sizes, generator=torch.Generator().manual_seed(sum(sizes)))


class TestFirstFrame:
    """Conditioning with an encoded first picture and, where `image_width` is not 0, what a vision encoder sees in it: as WanImageToVideo makes it from a VAE."""

    CATEGORY, FUNCTION, RETURN_TYPES = "refit-tests", "make", ("CONDITIONING",)

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "conditioning": ("CONDITIONING",),
                "latent": ("LATENT",),
                "image_tokens": ("INT", {"default": 0}),
                "image_width": ("INT", {"default": 0, "max": 8192}),
            }
        }

    def make(self, conditioning, latent, image_tokens, image_width):
        samples = latent["samples"]
        mask = torch.ones(1, 1, *samples.shape[2:])
        mask[:, :, :1] = 0
        extra = {"concat_latent_image": samples, "concat_mask": mask}
        if image_width:
            seen = torch.randn(1, image_tokens, image_width, generator=torch.Generator().manual_seed(5))
            extra["clip_vision_output"] = SimpleNamespace(penultimate_hidden_states=seen, last_hidden_state=seen)
        return ([[tensor, {**known, **extra}] for tensor, known in conditioning],)


class TestControlVideo:
    """Conditioning with a control video and its mask, as WanVaceToVideo makes it from a VAE."""

    CATEGORY, FUNCTION, RETURN_TYPES = "refit-tests", "make", ("CONDITIONING",)

    @classmethod
    def INPUT_TYPES(cls):
        sizes = {name: ("INT", {"default": 1, "max": 8192}) for name in ("frames", "height", "width")}
        return {"required": {"conditioning": ("CONDITIONING",), **sizes, "strength": ("FLOAT", {"default": 1.0})}}

    def make(self, conditioning, frames, height, width, strength):
        generator = torch.Generator().manual_seed(9)
        video = torch.randn(1, 32, frames, height, width, generator=generator)
        mask = torch.rand(1, 64, frames, height, width, generator=generator)
        extra = {"vace_frames": [video], "vace_mask": [mask], "vace_strength": [strength]}
        return ([[tensor, {**known, **extra}] for tensor, known in conditioning],)


class TestAnimated:
    """Conditioning with a pose video and a face video, as WanAnimateToVideo makes it; of the negative the face is dark."""

    CATEGORY, FUNCTION, RETURN_TYPES = "refit-tests", "make", ("CONDITIONING",)

    @classmethod
    def INPUT_TYPES(cls):
        sizes = {name: ("INT", {"default": 1, "max": 8192}) for name in ("frames", "height", "width", "face_frames", "face_size")}
        return {"required": {"conditioning": ("CONDITIONING",), **sizes, "dark": ("BOOLEAN", {"default": False})}}

    def make(self, conditioning, frames, height, width, face_frames, face_size, dark):
        generator = torch.Generator().manual_seed(10)
        pose = torch.randn(1, 16, frames, height, width, generator=generator)
        face = torch.rand(1, 3, face_frames, face_size, face_size, generator=generator) * 2 - 1
        extra = {"pose_video_latent": pose, "face_video_pixels": face * 0 - 1 if dark else face}
        return ([[tensor, {**known, **extra}] for tensor, known in conditioning],)


class TestSaveLatent:
    CATEGORY, FUNCTION, RETURN_TYPES, OUTPUT_NODE = "refit-tests", "save", (), True

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"samples": ("LATENT",), "path": ("STRING", {"default": ""})}}

    def save(self, samples, path):
        found = samples["samples"]
        if getattr(found, "is_nested", False):
            # Streams of a run, flat and one after the other.
            found = torch.cat([stream.flatten(1) for stream in found.unbind()], dim=1)
        torch.save(found, path)
        return {"ui": {"shape": list(found.shape)}}


class TestAttentionPatch:
    """An attention patch that scales the output of self-attention: visible, and not expressible on an engine."""

    CATEGORY, FUNCTION, RETURN_TYPES = "refit-tests", "patch", ("MODEL",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("MODEL",), "scale": ("FLOAT", {"default": 0.5})}}

    def patch(self, model, scale):
        clone = model.clone()
        clone.set_model_attn1_output_patch(lambda out, options: out * scale)
        return (clone,)


class TestDropPatches:
    """Keeps every n-th patched layer, as block-weight loaders do: what is left is no whole file."""

    CATEGORY, FUNCTION, RETURN_TYPES = "refit-tests", "drop", ("MODEL",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("MODEL",), "keep_every": ("INT", {"default": 2})}}

    def drop(self, model, keep_every):
        clone = model.clone()
        clone.patches = {key: value for index, (key, value) in enumerate(sorted(clone.patches.items())) if index % keep_every == 0}
        clone.patches_uuid = uuid.uuid4()
        return (clone,)


class TestInjection:
    """Changes a layer for the time of a run, as AnimateDiff does."""

    CATEGORY, FUNCTION, RETURN_TYPES = "refit-tests", "patch", ("MODEL",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("MODEL",)}}

    def patch(self, model):
        clone = model.clone()
        own = {}

        def inject(patcher):
            block = patcher.model.diffusion_model.middle_block
            own["forward"] = block.forward
            block.forward = lambda *given, **named: own["forward"](*given, **named) * 0.5

        def eject(patcher):
            patcher.model.diffusion_model.middle_block.forward = own["forward"]

        clone.set_injections("test", [comfy.patcher_extension.PatcherInjection(inject=inject, eject=eject)])
        return (clone,)


class TestObjectPatch:
    """Puts another layer in the place of one."""

    CATEGORY, FUNCTION, RETURN_TYPES = "refit-tests", "patch", ("MODEL",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("MODEL",)}}

    def patch(self, model):
        clone = model.clone()
        clone.add_object_patch("diffusion_model.time_embed", HalfLayer(clone.get_model_object("diffusion_model.time_embed")))
        return (clone,)


class HalfLayer(torch.nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, *given, **named):
        return self.layer(*given, **named) * 0.5


class TestReadBlocks:
    """A wrapper around the diffusion model that looks into it."""

    CATEGORY, FUNCTION, RETURN_TYPES = "refit-tests", "patch", ("MODEL",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("MODEL",)}}

    def patch(self, model):
        clone = model.clone()

        def wrapper(executor, *given, **named):
            assert len(executor.class_obj.input_blocks) > 0
            return executor(*given, **named)

        clone.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL, "test", wrapper)
        return (clone,)


class TestChangeInPlace:
    """Changes a layer of the model itself, for good."""

    CATEGORY, FUNCTION, RETURN_TYPES = "refit-tests", "patch", ("MODEL",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("MODEL",)}}

    def patch(self, model):
        block = model.model.diffusion_model.middle_block
        if "forward" not in vars(block):
            own = block.forward
            block.forward = lambda *given, **named: own(*given, **named) * 0.5
        return (model,)


class TestCopyForDevice:
    """A copy with weights of its own, as ComfyUI makes one for each further card."""

    CATEGORY, FUNCTION, RETURN_TYPES = "refit-tests", "copy", ("MODEL",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("MODEL",)}}

    def copy(self, model):
        return (model.deepclone_multigpu(torch.device("cpu")),)


NODES = (
    TestConditioning, TestLatent, TestFirstFrame, TestControlVideo, TestAnimated, TestSaveLatent, TestAttentionPatch, TestDropPatches, TestControl, TestInjection, TestObjectPatch,
    TestReadBlocks, TestChangeInPlace, TestCopyForDevice, TestCrowded, TestBlockControl, TestVideoVAE,
)  # fmt: skip
NODE_CLASS_MAPPINGS = {node.__name__: node for node in NODES}
