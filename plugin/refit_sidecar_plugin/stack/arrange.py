"""Orders files and leftover patches so that every parameter sees its patches in the order in which the UI applies them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import takewhile

from .patches import Patch, targets_digest


@dataclass(frozen=True, slots=True)
class FileItem:
    """A whole adapter file at one strength. `sha256` is the identity of the content that was compared.

    `places`: where the live patches are that it explains (parameter, index). `read` gives these patches; `digest` names what they change.
    """

    name: str
    sha256: str
    strength: float
    places: tuple[tuple[str, int], ...] = field(default=(), compare=False, repr=False)
    read: Callable[[], tuple[Patch, ...]] = field(default=tuple, compare=False, repr=False)
    digest: Callable[[], str] | None = field(default=None, compare=False, repr=False)

    @property
    def patches(self) -> tuple[Patch, ...]:
        return self.read()

    @property
    def targets(self) -> str:
        """What it changes, as `engine.prepare` names it."""
        return targets_digest(self.patches) if self.digest is None else self.digest()


@dataclass(frozen=True, slots=True)
class ContentItem:
    """Patches that no file explains: at most one per target, all at one strength."""

    patches: tuple[Patch, ...]
    strength: float

    @property
    def targets(self) -> str:
        """What it changes, as `engine.prepare` names it."""
        return targets_digest(self.patches)


StackItem = FileItem | ContentItem
Labels = dict[str, list[int | None]]
Place = tuple[str, int]


def arrange(live: dict[str, list[Patch]], labels: Labels, files: list[FileItem]) -> list[StackItem]:
    """Greedy topological order: a file goes out when nothing that has to come before one of its patches is left; leftovers go out when no file can.

    Two files in opposite order on two parameters cannot both be whole; then the patches of one are given by content.
    """
    labels = {parameter: list(entries) for parameter, entries in labels.items()}
    left = {parameter: list(range(len(patches))) for parameter, patches in live.items()}
    places: dict[int, list[Place]] = defaultdict(list)
    for parameter, entries in labels.items():
        for index, label in enumerate(entries):
            if label is not None:
                places[label].append((parameter, index))
    out: list[StackItem] = []
    while any(left.values()):
        ready = next((label for label, where in places.items() if _ready(live, left, where)), None)
        if ready is not None:
            out.append(files[ready])
            for parameter, index in places.pop(ready):
                left[parameter].remove(index)
            continue
        item = _next_content(live, labels, left)
        if item is not None:
            out.append(item)
            continue
        for parameter, index in places.pop(next(iter(places))):
            labels[parameter][index] = None
    return out


def _ready(live: dict[str, list[Patch]], left: dict[str, list[int]], places: list[Place]) -> bool:
    """True when every patch that is left and comes before one of these touches none of its rows, or is one of these: a file has several on a fused weight."""
    own = set(places)
    return all(
        (parameter, before) in own or not live[parameter][before].target.overlaps(live[parameter][index].target)
        for parameter, index in places
        for before in takewhile(lambda earlier, index=index: earlier < index, left[parameter])
    )


def _next_content(live: dict[str, list[Patch]], labels: Labels, left: dict[str, list[int]]) -> ContentItem | None:
    """Takes the next unexplained patch of every target, for the strength that most of them share; takes them out of `left`."""
    by_strength: dict[float, list[Place]] = defaultdict(list)
    for parameter, indices in left.items():
        for index in indices:
            if labels[parameter][index] is None and _ready(live, left, [(parameter, index)]):
                by_strength[live[parameter][index].strength].append((parameter, index))
    if not by_strength:
        return None
    strength = max(by_strength, key=lambda value: len(by_strength[value]))
    taken = by_strength[strength]
    for parameter, index in taken:
        left[parameter].remove(index)
    return ContentItem(tuple(live[parameter][index] for parameter, index in taken), strength)
