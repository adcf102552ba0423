"""Stand-in ControlNets: constant answers of the right shapes, so that no ControlNet file is needed."""

import torch


class TestControl:
    """Conditioning with a ControlNet of a UNet."""

    CATEGORY, FUNCTION, RETURN_TYPES = "refit-tests", "make", ("CONDITIONING",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"conditioning": ("CONDITIONING",), "strength": ("FLOAT", {"default": 1.0})}}

    def make(self, conditioning, strength):
        control = ConstantControl(strength)
        return ([[tensor, {**extra, "control": control, "control_apply_to_uncond": True}] for tensor, extra in conditioning],)


class ConstantControl:
    extra_hooks = None
    previous_controlnet = None
    # Read by ComfyUI's newer versions.
    multigpu_clones = {}
    cond_hint_original = None
    timestep_range = None

    def __init__(self, strength):
        self.strength = strength

    def copy(self):
        return self

    def set_previous_controlnet(self, _):
        return self

    def get_models(self):
        return []

    def get_extra_hooks(self):
        return []

    def inference_memory_requirements(self, dtype):
        return 0

    def pre_run(self, model, percent_to_timestep_function):
        pass

    def cleanup(self):
        pass

    def get_control(self, x, t, cond, batched_number, transformer_options):
        """Residuals of the sd15_tiny layout: three input levels and the middle, deterministic in their shapes."""

        def residual(seed, h, w):
            generator = torch.Generator().manual_seed(seed)
            return (torch.randn(x.shape[0], 320, h, w, generator=generator) * 0.1 * self.strength).to(x.dtype)

        h, w = x.shape[2], x.shape[3]
        small = ((h + 1) // 2, (w + 1) // 2)
        return {
            "input": [],
            "middle": [residual(9, *small)],
            "output": [residual(1, h, w), residual(2, h, w), residual(3, *small), residual(4, *small)],
        }


class TestBlockControl:
    """Conditioning with a ControlNet of a transformer: a tensor behind each block, some of them one for two blocks as real ones repeat theirs."""

    CATEGORY, FUNCTION, RETURN_TYPES = "refit-tests", "make", ("CONDITIONING",)

    @classmethod
    def INPUT_TYPES(cls):
        numbers = {name: ("INT", {"default": 0, "max": 8192}) for name in ("width", "double", "single")}
        return {"required": {"conditioning": ("CONDITIONING",), **numbers, "repeated": ("BOOLEAN", {"default": False})}}

    def make(self, conditioning, width, double, single, repeated):
        control = BlockControl(width, double, single, repeated)
        return ([[tensor, {**extra, "control": control, "control_apply_to_uncond": True}] for tensor, extra in conditioning],)


class BlockControl(ConstantControl):
    def __init__(self, width, double, single, repeated):
        self.width, self.double, self.single, self.repeated = width, double, single, repeated

    def get_control(self, x, t, cond, batched_number, transformer_options):
        patches = ((x.shape[-2] + 1) // 2) * ((x.shape[-1] + 1) // 2)

        def behind(blocks, first):
            out = []
            for number in range(blocks):
                if number % 2 and self.repeated:
                    out.append(out[-1])
                    continue
                generator = torch.Generator().manual_seed(first + number)
                out.append((torch.randn(x.shape[0], patches, self.width, generator=generator) * 0.2).to(x.dtype))
            return out

        return {"input": behind(self.double, 50), "output": behind(self.single, 80)}
