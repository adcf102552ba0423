"""Which layers of Flux an fp8 engine should leave whole: output error when one kind alone is quantised, weights alone and with activations.

The last two rows quantise what the host's choice quantises, and everything.
"""

from __future__ import annotations

import re
from typing import Iterator

import torch
from refit_host.quant.choose import quantised_layers
from refit_host.quant.formats import FORMATS
from refit_host.quant.linear import QuantLinear, best_way

from ..context import Context, relative_error
from ..flux import Flux


def _kind(name: str) -> str:
    return re.sub(r"\d+", "*", name)


def _quantise(module: torch.nn.Module, names: list[str], form_name: str, way: str) -> None:
    form = FORMATS[form_name]
    for name in names:
        path, _, leaf = name.rpartition(".")
        layer = module.get_submodule(name)
        setattr(module.get_submodule(path), leaf, QuantLinear(form, form.encode(layer.weight.flatten(1)), layer.bias, way))


def _linears(module: torch.nn.Module) -> dict[str, list[str]]:
    kinds: dict[str, list[str]] = {}
    for name, layer in module.named_modules():
        if isinstance(layer, torch.nn.Linear):
            kinds.setdefault(_kind(name), []).append(name)
    return kinds


def run(context: Context, options: dict) -> Iterator[dict]:
    flux, form_name = Flux(context), options.get("format", "fp8")
    inputs = flux.inputs(side=options.get("side", 512))
    reference = flux.forward(flux.module(), inputs).clone()
    chosen = {_kind(name) for name in quantised_layers(flux.spec.build(), flux.spec, flux.shapes, FORMATS[form_name])}
    kinds = _linears(flux.module())
    everything = [name for names in kinds.values() for name in names]
    groups = {**kinds, "the host's choice": [name for kind in chosen for name in kinds[kind]], "everything": everything}
    best = best_way(FORMATS[form_name], context.device, torch.bfloat16)
    for kind, names in groups.items():
        row = {"what": "flux sensitivity", "format": form_name, "layers": kind, "count": len(names), "quantised_by_host": kind in chosen}
        # Products of one row (time embeddings, modulation) have no fp8 kernel worth running.
        for way in ("dequantise", *([best] if best != "dequantise" and (kind in chosen or kind == "the host's choice") else ())):
            try:
                module = flux.module()
                _quantise(module, names, form_name, way)
                row[f"error_{way}"] = relative_error(flux.forward(module, inputs), reference)
            except Exception as error:  # one kind that fails must not hide the others
                row[f"failed_{way}"] = f"{type(error).__name__}: {error}"[:300]
        yield row
