"""Patches in words that no UI owns."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")

Scalar = float | int | tuple[int, ...] | None


def _unknown() -> None:
    return None


@dataclass(frozen=True, slots=True)
class TensorRef:
    """A tensor somewhere in the UI's memory or in a file. `digest` and `read` may be slow; both give the tensor as it is now."""

    dtype: str
    shape: tuple[int, ...]
    digest: Callable[[], str] = field(compare=False, repr=False)
    read: Callable[[], bytes] = field(compare=False, repr=False)
    # A name that only tensors of the same place of the same file have; None: not known.
    origin: Callable[[], str | None] = field(default=_unknown, compare=False, repr=False)
    # Some of its bytes, always of the same positions; None: not known. Two that differ there need no digest.
    sample: Callable[[], bytes | None] = field(default=_unknown, compare=False, repr=False)

    def same(self, other: TensorRef) -> bool:
        """Equal values: at once for two of one place of a file, and for two that differ in their samples, else by digest."""
        mine = self.origin()
        if mine is not None and mine == other.origin():
            return True
        here, there = self.sample(), other.sample()
        if here is not None and there is not None and here != there:
            return False
        return self.digest() == other.digest()


Part = TensorRef | Scalar


@dataclass(frozen=True, slots=True)
class Target:
    """A parameter in canonical name, or rows of it (start, length on dimension 0), or with its halves exchanged."""

    parameter: str
    rows: tuple[int, int] | None = None
    swapped: bool = False

    def overlaps(self, other: Target) -> bool:
        """True when both act on a common element, so that their order has a meaning."""
        if self.parameter != other.parameter:
            return False
        if self.rows is None or other.rows is None:
            return True
        return self.rows[0] < other.rows[0] + other.rows[1] and other.rows[0] < self.rows[0] + self.rows[1]


@dataclass(frozen=True, slots=True)
class Patch:
    """What one adapter does to one target. `parts` are named as the file format names them; their order is fixed per kind."""

    target: Target
    kind: str
    parts: tuple[tuple[str, Part], ...]
    strength: float = 1.0

    def frozen(self) -> Patch:
        """The same patch with digests in place of tensors: nothing is held in memory, and no file is kept open. A tensor whose place in a file is known is
        hashed only when somebody asks, which holds it until then.
        """

        def freeze(part: Part) -> Part:
            if not isinstance(part, TensorRef):
                return part
            origin, sample = part.origin(), part.sample()
            if origin is not None:
                return TensorRef(part.dtype, part.shape, Once(part.digest), _gone, lambda: origin, lambda: sample)
            digest = part.digest()
            return TensorRef(part.dtype, part.shape, lambda: digest, _gone, sample=lambda: sample)

        return Patch(self.target, self.kind, tuple((name, freeze(part)) for name, part in self.parts), self.strength)

    def outline(self) -> tuple[object, ...]:
        """Everything but strength and tensor values: equal outlines are worth comparing by digest."""
        return (
            self.target,
            self.kind,
            tuple((name, (part.dtype, part.shape) if isinstance(part, TensorRef) else part) for name, part in self.parts),
        )

    def same_values(self, other: Patch) -> bool:
        """Tensor by tensor. Only meaningful for equal outlines."""
        pairs = zip(self.parts, other.parts, strict=True)
        return all(mine.same(theirs) for (_, mine), (_, theirs) in pairs if isinstance(mine, TensorRef) and isinstance(theirs, TensorRef))


def targets_digest(patches: Iterable[Patch]) -> str:
    """Names what the patches change, as the sidecar names it of its own reading of their file (`stack[].targets` of `engine.prepare`)."""
    return digest_of_targets(patch.target for patch in patches)


def digest_of_targets(targets: Iterable[Target]) -> str:
    """As `targets_digest`."""

    def line(target: Target) -> str:
        rows = "" if target.rows is None else f"{target.rows[0]},{target.rows[1]}"
        # Releases of ComfyUI call the weights of some norms one or the other.
        name = re.sub(r"\.(weight|scale)$", "", target.parameter)
        return f"{name}\t{rows}\t{'swap' if target.swapped else ''}"

    return hashlib.sha256("\n".join(sorted({line(target) for target in targets})).encode()).hexdigest()


class Once(Generic[T]):
    """A digest or a sample that is computed when it is first asked for, and lets go of its tensor then. Digests are asked for in the background too: see
    `settle`."""

    __slots__ = ("_compute", "_value")

    def __init__(self, compute: Callable[[], T]) -> None:
        self._compute: Callable[[], T] | None = compute

    def __call__(self) -> T:
        compute = self._compute
        if compute is not None:
            self._value = compute()
            self._compute = None
        return self._value


def settle(patches: Iterable[Patch]) -> None:
    """Computes every digest that is still owed, so that no tensor is held for one."""
    for patch in patches:
        for _, part in patch.parts:
            if isinstance(part, TensorRef):
                part.digest()


def _gone() -> bytes:
    raise RuntimeError("a frozen patch has no tensor values")
