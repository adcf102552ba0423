"""Orders files and leftover patches so that every parameter sees its patches in the order in which the UI applies them."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from .patches import Patch


@dataclass(frozen=True, slots=True)
class FileItem:
    """A whole adapter file at one strength. `sha256` is the identity of the content that was compared.

    `patches` are the live patches that it explains, `places` where they are (parameter, index).
    """

    name: str
    sha256: str
    strength: float
    patches: tuple[Patch, ...] = field(default=(), compare=False, repr=False)
    places: tuple[tuple[str, int], ...] = field(default=(), compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class ContentItem:
    """Patches that no file explains: at most one per target, all at one strength."""

    patches: tuple[Patch, ...]
    strength: float


StackItem = FileItem | ContentItem
Labels = dict[str, list[int | None]]


def arrange(live: dict[str, list[Patch]], labels: Labels, files: list[FileItem]) -> list[StackItem]:
    """Greedy topological order: a file goes out when all its patches are next; leftovers go out when no file can.

    Two files in opposite order on two parameters cannot both be whole; then the patches of one are given by content.
    """
    labels = {parameter: list(entries) for parameter, entries in labels.items()}
    done = dict.fromkeys(live, 0)
    places: dict[int, list[tuple[str, int]]] = defaultdict(list)
    for parameter, entries in labels.items():
        for index, label in enumerate(entries):
            if label is not None:
                places[label].append((parameter, index))
    out: list[StackItem] = []
    while any(done[parameter] < len(patches) for parameter, patches in live.items()):
        ready = next((label for label, where in places.items() if all(done[parameter] == index for parameter, index in where)), None)
        if ready is not None:
            out.append(files[ready])
            for parameter, _ in places.pop(ready):
                done[parameter] += 1
            continue
        item = _next_content(live, labels, done)
        if item is not None:
            out.append(item)
            continue
        for parameter, index in places.pop(next(iter(places))):
            labels[parameter][index] = None
    return out


def _next_content(live: dict[str, list[Patch]], labels: Labels, done: dict[str, int]) -> ContentItem | None:
    """Takes the next unexplained patch of every parameter, for the strength that most of them share; moves `done`."""
    by_strength: dict[float, list[Patch]] = defaultdict(list)
    for parameter, patches in live.items():
        index = done[parameter]
        if index < len(patches) and labels[parameter][index] is None:
            by_strength[patches[index].strength].append(patches[index])
    if not by_strength:
        return None
    strength = max(by_strength, key=lambda value: len(by_strength[value]))
    for patch in by_strength[strength]:
        done[patch.target.parameter] += 1
    return ContentItem(tuple(by_strength[strength]), strength)
