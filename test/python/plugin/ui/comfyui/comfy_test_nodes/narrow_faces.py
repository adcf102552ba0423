"""Wan Animate's motion encoder in ComfyUI's own class, with the widths of a narrow file: ComfyUI knows those of the published one alone."""

from functools import partial

import torch

STEM = "motion_encoder.enc.net_app.convs"


def use_widths_of(state_dict, prefix=""):
    """The class that is made next fits these weights."""
    from comfy.ldm.wan import model_animate  # only newer versions have it

    widths = {
        int(name.split(".")[-4]): value.shape[:2]
        for name, value in state_dict.items()
        if name.startswith(prefix + STEM) and name.endswith("conv2.1.weight")
    }
    model_animate.EncoderApp = partial(_Narrow, model_animate, [widths[number] for number in sorted(widths)])


class _Narrow(torch.nn.Module):
    def __init__(self, model_animate, widths, dim, **settings):
        super().__init__()
        blocks = [model_animate.ResBlock(taken, given, **settings) for given, taken in widths]
        first = model_animate.ConvLayer(3, widths[0][1], 1, **settings)
        last = model_animate.EqualConv2d(widths[-1][0], dim, 4, padding=0, bias=False, **settings)
        self.convs = torch.nn.ModuleList([first, *blocks, last])

    def forward(self, faces):
        for conv in self.convs:
            faces = conv(faces)
        return faces.squeeze(-1).squeeze(-1)
