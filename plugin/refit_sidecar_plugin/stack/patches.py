"""Patches in words that no UI owns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

Scalar = float | int | tuple[int, ...] | None


@dataclass(frozen=True, slots=True)
class TensorRef:
    """A tensor somewhere in the UI's memory or in a file. `digest` and `read` may be slow; both give the tensor as it is now."""

    dtype: str
    shape: tuple[int, ...]
    digest: Callable[[], str] = field(compare=False, repr=False)
    read: Callable[[], bytes] = field(compare=False, repr=False)


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
        """The same patch with digests in place of tensors: nothing is held in memory, and no file is kept open."""

        def freeze(part: Part) -> Part:
            if not isinstance(part, TensorRef):
                return part
            digest = part.digest()
            return TensorRef(part.dtype, part.shape, lambda: digest, _gone)

        return Patch(self.target, self.kind, tuple((name, freeze(part)) for name, part in self.parts), self.strength)

    def outline(self) -> tuple[object, ...]:
        """Everything but strength and tensor values: equal outlines are worth comparing by digest."""
        return (self.target, self.kind, tuple((name, (part.dtype, part.shape) if isinstance(part, TensorRef) else part) for name, part in self.parts))

    def same_values(self, other: Patch) -> bool:
        """Tensor by tensor, by digest. Only meaningful for equal outlines."""
        pairs = zip(self.parts, other.parts, strict=True)
        return all(mine.digest() == theirs.digest() for (_, mine), (_, theirs) in pairs if isinstance(mine, TensorRef) and isinstance(theirs, TensorRef))


def _gone() -> bytes:
    raise RuntimeError("a frozen patch has no tensor values")
