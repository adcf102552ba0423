"""A1111's own UNet and the device. The UNet slot moves it off and back; --medvram would move it to the device again at every call."""

from __future__ import annotations

import torch
from modules import devices, lowvram, shared


def keep_off_device() -> None:
    """Before a step on an engine. With --medvram a hook moves whatever runs to the device: it is told that the UNet is there already."""
    wrapper = shared.sd_model.model
    if not _moves_whole_unet() or lowvram.module_in_gpu is wrapper:
        return
    lowvram.send_everything_to_cpu()
    lowvram.module_in_gpu = wrapper


def release() -> None:
    """After the picture, the hook moves the UNet as it always does."""
    if _moves_whole_unet() and lowvram.module_in_gpu is shared.sd_model.model:
        lowvram.send_everything_to_cpu()


def bring_back() -> None:
    """For a call of the original UNet right now: the hook is behind us already."""
    if _moves_whole_unet() and lowvram.module_in_gpu is shared.sd_model.model:
        shared.sd_model.model.to(devices.device)


def stored_in_8_bits() -> bool:
    return bool(getattr(devices, "fp8", False))


def make_room(wanted: int) -> int:
    """A1111 keeps its UNet off the device already; its cache is what can be given back."""
    if not torch.cuda.is_available():
        return 0
    before = torch.cuda.mem_get_info()[0]
    devices.torch_gc()
    return max(0, torch.cuda.mem_get_info()[0] - before)


def _moves_whole_unet() -> bool:
    """--lowvram moves the UNet's blocks one by one, which an engine never calls."""
    return bool(getattr(shared.sd_model, "lowvram", False)) and not shared.cmd_opts.lowvram
