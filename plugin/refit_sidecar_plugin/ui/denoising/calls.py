"""One denoiser call, from a UI's arguments to the engine's inputs, per model class. What an engine cannot do is named, never dropped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any

import torch

from ...families import WordsCall, call_of
from .guides import guides_of
from .refusal import NotServed

# Keys of transformer_options that describe the call and change nothing in the model: ComfyUI's, those of its newer versions, state of wrappers
# that only decide whether and with which frames the model is called (EasyCache, LazyCache, context windows), and those that only Forge and Forge Neo have.
DESCRIPTIVE = frozenset({
    "sigmas", "sample_sigmas", "cond_or_uncond", "uuids", "wrappers", "callbacks", "original_shape", "transformer_index", "block",
    "prefetch_dynamic_vbars", "multigpu_thread_device", "disable_comfy_compiler", "block_index", "block_type", "total_blocks", "activations_shape",
    "easycache", "context_window",
    "cond_mark", "cond_indices", "uncond_indices", "sampling_sigmas",
})  # fmt: skip


# ComfyUI's own function under this key names one of its attention kernels; an engine has its own.
ATTENTION = "optimized_attention_override"


@dataclass(frozen=True)
class CallShape:
    """Argument order of a model class's forward, and which engine input each tensor becomes."""

    positional: tuple[str, ...]
    inputs: Mapping[str, str | tuple[str, ...]]
    #: Engine inputs that are the same over a run.
    once_per_run: frozenset[str]
    #: Arguments that say nothing that an engine does not know.
    ignored: frozenset[str] = frozenset()
    #: Engine inputs that not every checkpoint of the class has a layer for; without it, its own forward does not look at the argument.
    conditional: frozenset[str] = frozenset()
    #: Engine inputs that a call may leave out.
    optional: frozenset[str] = frozenset()
    #: Engine inputs that take a list of at most so many tensors.
    many: Mapping[str, int] = field(default_factory=dict)
    #: Argument of one number a batch entry -> the engine input for numbers of parts of the sample.
    finer: Mapping[str, str | tuple[str, ...]] = field(default_factory=dict)
    #: Value in the configuration that the UI read off a file -> engine input; with a word: 1 where the value is that word.
    settings: Mapping[str, str | tuple[str, str]] = field(default_factory=dict)
    #: Value in the call's own options -> engine input.
    options: Mapping[str, str] = field(default_factory=dict)
    #: Part of a ControlNet's answer -> (engine input, key of the configuration under which the number of blocks stands, input of the last block or "").
    controls: Mapping[str, tuple[str, str, str]] = field(default_factory=dict)
    #: Engine inputs for the places of guides, for the cells that the model sees, and for weights between guides and video.
    guides: tuple[str, str, str] | None = None
    #: Argument -> (key of the configuration, word where that has none) with which it asks for what the model does anyway.
    usual: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    #: Argument -> the number by which the class multiplies it in its own float type.
    scaled: Mapping[str, float] = field(default_factory=dict)
    #: Height and width of the sample are filled up to a multiple of it, from the start.
    patch: int = 1
    #: The method of the model that makes a run's words.
    words: WordsCall | None = None


def call_shape(ui: str, class_name: str) -> CallShape | None:
    """How a UI's model class is called ("comfyui", "forge"); None when no engine speaks the class."""
    found = call_of(ui, class_name)
    if found is None:
        return None
    same = {one.name: getattr(found, one.name) for one in fields(CallShape) if one.name != "positional"}
    return CallShape(found.arguments, **same)


# A1111 knows UNets only, and gives them as ComfyUI does.
UNET: CallShape = call_shape("comfyui", "BaseModel")  # type: ignore[assignment]


@dataclass
class Call:
    """Tensors by engine input name; those of `once` are the same over many steps of a run, those of `conditional` go only to an engine that takes them,
    and an engine can do without those of `optional`.
    """

    tensors: dict[str, torch.Tensor]
    once: frozenset[str]
    residuals: tuple[torch.Tensor, ...]
    x: torch.Tensor
    conditional: frozenset[str] = frozenset()
    optional: frozenset[str] = frozenset()
    #: Sizes behind the batch of each stream (video, audio) where the sample is a list of them; the engine's answer then holds all, flat, one after the other.
    streams: tuple[tuple[int, ...], ...] = ()
    #: A step; else the call that makes a run's words, which has inputs of its own.
    step: bool = True
    #: An input of a step: what is as wide as it needs no call.
    done_as: str | None = None


def read_call(shape: CallShape, args: tuple, kwargs: dict, configuration: Mapping[str, object] = MappingProxyType({})) -> Call:
    """`args` in the class's own order; `configuration`: of the UI's model, for `settings`. Raises NotServed with the first thing that no engine input can carry."""
    named = dict(zip(shape.positional, args, strict=False)) | kwargs
    options = dict(named.pop("transformer_options", None) or {})
    asked = {target: options.pop(name) for name, target in shape.options.items() if name in options}
    refuse_patches(options)
    control = named.pop("control", None) or {}
    guided = None if shape.guides is None else guides_of(named)
    sample = named[shape.positional[0]]
    streams: tuple[Any, ...] = tuple(sample) if isinstance(sample, (list, tuple)) else (sample,)
    tensors: dict[str, torch.Tensor] = {}
    for name, value in _taken_apart(shape, named).items():
        if value is None or name in shape.ignored or _is_usual(shape, name, value, configuration):
            continue
        tensors.update(_inputs(shape, name, _rounded(value, shape.scaled.get(name)), streams[0].shape[0]))
    tensors |= _settings(shape.settings, configuration, streams[0].shape[0])
    tensors |= {target: torch.full((streams[0].shape[0],), float(value)) for target, value in asked.items()}
    if shape.guides is not None and guided is not None:
        tensors |= {name: value for name, value in zip(shape.guides, guided, strict=True) if value is not None}
    if shape.controls:
        tensors |= block_controls(shape.controls, control, configuration)
    optional = {*shape.optional, *(name for base, count in shape.many.items() for name in _numbered(base, count))}
    if shape.words is not None:
        optional |= {name for names in shape.words.inputs.values() for name in ((names,) if isinstance(names, str) else names)}
    once = {
        *shape.once_per_run,
        *(name for base, count in shape.many.items() if base in shape.once_per_run for name in _numbered(base, count)),
    }
    name = shape.inputs.get(shape.positional[0])
    if isinstance(name, str):
        tensors[name] = _filled_up(tensors[name], shape.patch)
    more = tuple(tuple(stream.shape[1:]) for stream in streams) if isinstance(sample, (list, tuple)) else ()
    return Call(
        tensors, frozenset(once), () if shape.controls else residuals(control), streams[0], shape.conditional, frozenset(optional), more
    )


def _filled_up(sample: torch.Tensor, patch: int) -> torch.Tensor:
    """[..., h, w] with both sides a multiple of `patch`: rows and columns that lack are those of the start, as in the UIs' own classes."""
    height, width = sample.shape[-2:]
    if height % patch:
        sample = torch.cat([sample, sample[..., : -height % patch, :]], dim=-2)
    return torch.cat([sample, sample[..., : -width % patch]], dim=-1) if width % patch else sample


def _rounded(value: Any, factor: float | None) -> Any:
    """What times `factor` is exactly what the UI's class computes in the argument's own type: 3.5 in bf16, times 1000, is 3504."""
    if factor is not None and isinstance(value, torch.Tensor) and value.dtype in (torch.bfloat16, torch.float16):
        return (value * factor).float() / factor
    return value


def _taken_apart(shape: CallShape, named: Mapping[str, object]) -> dict[str, object]:
    """Arguments that are tables of known values, as these."""
    tables = {name.split(".")[0] for name in (*shape.inputs, *shape.ignored) if "." in name}
    out: dict[str, object] = {}
    for name, value in named.items():
        if name in tables and isinstance(value, Mapping):
            for key, each in value.items():
                # Whole numbers of tokens, without a batch.
                plain = isinstance(each, torch.Tensor) and each.ndim == 1
                out[f"{name}.{key}"] = each[None].float() if plain else each
        else:
            out[name] = value
    return out


def _settings(settings: Mapping[str, str | tuple[str, str]], configuration: Mapping[str, object], batch: int) -> dict[str, torch.Tensor]:
    """What the configuration says of them; nothing of what it leaves out."""
    found: dict[str, torch.Tensor] = {}
    for name, target in settings.items():
        value = configuration.get(name)
        if isinstance(target, tuple):
            if isinstance(value, str):
                found[target[0]] = torch.full((batch,), float(str(value) == target[1]))
        elif isinstance(value, (bool, int, float)):
            found[target] = torch.full((batch,), float(value))
    return found


def read_words(words: WordsCall, args: tuple, kwargs: dict, configuration: Mapping[str, object] = MappingProxyType({})) -> Call:
    """The call that makes a run's words. Raises NotServed as read_call does."""
    named = dict(zip(words.arguments, args, strict=False)) | kwargs
    asked = words.unless is not None and named.pop(words.unless[0], None)
    given = {name: value for name, value in named.items() if value is not None and name not in words.ignored}
    first = given[words.arguments[0]]
    shape = CallShape(words.arguments, words.inputs, frozenset())
    tensors: dict[str, torch.Tensor] = {}
    for name, value in given.items():
        whole = value.float() if isinstance(value, torch.Tensor) and not value.is_floating_point() else value
        tensors.update(_inputs(shape, name, whole, first.shape[0]))
    tensors |= _settings(words.settings, configuration, first.shape[0])
    return Call(tensors, frozenset(), (), first, step=False, done_as=None if words.unless is None or asked else words.unless[1])


def _is_usual(shape: CallShape, argument: str, value: object, configuration: Mapping[str, object]) -> bool:
    setting, word = shape.usual.get(argument, ("", None))
    return word is not None and value == configuration.get(setting, word)


def _inputs(shape: CallShape, argument: str, value: object, batch: int) -> dict[str, torch.Tensor]:
    """The engine inputs that one argument fills."""
    names = shape.inputs.get(argument)
    several: Sequence[object] = value if isinstance(value, (list, tuple)) else (value,)
    if isinstance(names, str) and names in shape.many and isinstance(value, (list, tuple)):
        found = [one for one in several if isinstance(one, torch.Tensor)]
        if len(found) == len(several):
            if len(found) > shape.many[names]:
                raise NotServed(f"{len(found)} tensors as {argument!r} where an engine takes {shape.many[names]}", "RUN_INPUT")
            return dict(zip(_numbered(names, len(found)), found, strict=True))
    if names is None or (isinstance(names, str) and names in shape.many):
        raise NotServed(f"the model argument {argument!r} has no engine input", "RUN_INPUT")
    finer = shape.finer.get(argument)
    if isinstance(names, str):
        return _one(argument, names, finer if isinstance(finer, str) else None, value, batch)
    finers = finer if isinstance(finer, tuple) else (None,) * len(names)
    if len(several) > len(names):
        raise NotServed(f"{len(several)} tensors as {argument!r} where an engine takes {len(names)}", "RUN_INPUT")
    filled: dict[str, torch.Tensor] = {}
    for name, fine, one in zip(names, finers, several, strict=False):
        filled |= _one(argument, name, fine, one, batch)
    return filled


def _one(argument: str, name: str, finer: str | None, value: Any, batch: int) -> dict[str, torch.Tensor]:
    if isinstance(value, torch.Tensor):
        if finer is None or value.ndim == 1:
            return {name: value}
        # A number for each part of the sample: of each frame, each token.
        parts = value.reshape(value.shape[0], -1)
        return {name: parts.amax(dim=1), finer: parts}
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return {name: torch.full((batch,), float(value))}
    numbers = [one for one in value if isinstance(one, (int, float))] if isinstance(value, (list, tuple)) else []
    if not isinstance(value, (list, tuple)) or not numbers or len(numbers) != len(value):
        raise NotServed(f"the model argument {argument!r} has no engine input", "RUN_INPUT")
    return {name: torch.tensor([numbers], dtype=torch.float32).expand(batch, -1).contiguous()}


def _numbered(name: str, count: int) -> list[str]:
    return [f"{name}_{index}" for index in range(count)]


def refuse_patches(transformer_options: Mapping[str, object]) -> None:
    """Raises NotServed for anything in transformer_options that reaches into the model's blocks, by the node that put it there."""
    for key, value in transformer_options.items():
        empty = value is None or value is False or (isinstance(value, (dict, list, tuple)) and not value)
        if key in DESCRIPTIVE or empty or (key == ATTENTION and _is_comfyuis(value)):
            continue
        if key in ("patches", "patches_replace") and isinstance(value, dict):
            kind, patch = next(((kind, patch) for kind, patch in value.items() if patch), (None, None))
            if kind is not None:
                raise NotServed(f"{made_by(patch)}, which acts inside the model ({kind})", "RUN_INSIDE_MODEL")
        else:
            raise NotServed(f"{made_by(value)}, which may act inside the model (option {key!r})", "RUN_INSIDE_MODEL")


def _is_comfyuis(function: object) -> bool:
    return str(getattr(function, "__module__", "")).partition(".")[0] == "comfy"


def made_by(value: object) -> str:
    """Who wrote a function or an object that a node left in a MODEL: the node's class, as far as the function's name in the source tells it."""
    found = _code_in(value)
    if found is None:
        return "a node"
    owner = found if isinstance(found, type) else type(found) if not hasattr(found, "__qualname__") else None
    name = owner.__qualname__ if owner is not None else found.__qualname__  # type: ignore[attr-defined]
    outermost = name.split(".")[0]
    module = str(getattr(found, "__module__", "") or "")
    if module.split(".")[0] in ("torch", "builtins"):
        return "a node"
    return outermost if outermost[:1].isupper() else f"a node of {module.split('.')[-1]}" if module else "a node"


def _code_in(value: object) -> object | None:
    """The first thing in nested dictionaries and lists that has a source: a function, or an object of a class of its own."""
    if isinstance(value, Mapping):
        return next((found for item in value.values() if (found := _code_in(item)) is not None), None)
    if isinstance(value, (list, tuple)):
        return next((found for item in value if (found := _code_in(item)) is not None), None)
    if value is None or isinstance(value, (str, bytes, int, float, torch.Tensor)):
        return None
    return getattr(value, "func", value)


def block_controls(
    known: Mapping[str, tuple[str, str, str]], control: Mapping[str, Sequence[Any]], configuration: Mapping[str, object]
) -> dict[str, torch.Tensor]:
    """What ControlNets of a transformer add behind its blocks, part by part; a tensor that the UI gives for several blocks in a row goes once.

    The engine spreads what it gets over all blocks, each for equally many, the last one for what is left. The UIs add nothing behind a block for which
    the list has no tensor or ends before, and look at nothing behind the last block.
    """
    out: dict[str, torch.Tensor] = {}
    for part, given in control.items():
        values = list(given or ())
        if all(value is None for value in values):
            continue
        if part not in known:
            raise NotServed(f"a ControlNet of another kind (it has a part {part!r})", "RUN_INPUT")
        name, setting, last = known[part]
        blocks = configuration.get(setting)
        if not isinstance(blocks, int):
            raise NotServed("a ControlNet of a model whose blocks are not counted", "RUN_INPUT")
        if last and len(values) >= blocks and values[blocks - 1] is not None:
            out[last] = values[blocks - 1]
        values = _for_each_block(values, blocks - bool(last))
        if not values:
            continue
        firsts = [number for number, value in enumerate(values) if number == 0 or value is not values[number - 1]]
        each = -(-len(values) // len(firsts))
        told = values[::each] if firsts == list(range(0, len(values), each)) else values
        out |= zip(_numbered(name, len(told)), told, strict=True)
    return out


def _for_each_block(values: list[torch.Tensor | None], blocks: int) -> list[torch.Tensor]:
    """So many tensors: a patch of zeros for a block behind which nothing is added, as the engine fills up what is shorter than the picture. Empty where nothing is added."""
    given = values[:blocks] + [None] * (blocks - len(values))
    some = next((value for value in given if value is not None), None)
    if some is None:
        return []
    nothing = torch.zeros_like(some[:, :1])
    return [nothing if value is None else value for value in given]


def residuals(control: Mapping[str, list]) -> tuple[torch.Tensor, ...]:
    """ControlNet residuals: one per skip connection, first block first, then the middle block's. Empty without a ControlNet.

    The UIs take these lists from the end while they walk the skip connections backwards, so an entry's index is its skip connection's.
    """
    if any(value is not None for value in control.get("input", ())):
        raise NotServed("a T2I adapter or another control of the input blocks", "RUN_INPUT")
    output, middle = list(control.get("output", ())), list(control.get("middle", ()))
    if not output and not middle:
        return ()
    if len(middle) != 1 or any(value is None for value in (*output, *middle)):
        raise NotServed("a ControlNet that leaves out some residuals", "RUN_INPUT")
    return (*output, *middle)
