"""Matches patches with candidate files, exactly."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from .arrange import FileItem, Labels, StackItem, arrange
from .patches import Patch


@dataclass(frozen=True, slots=True)
class Candidate:
    """A file that may be part of the stack. `patches` gives what the UI's own loader makes of it, or None when it cannot be read now."""

    name: str
    patches: Callable[[], Sequence[Patch] | None]
    sha256: Callable[[], str | None]


Find = Callable[[Patch], Candidate | None]

# Patches for which a search may come back empty before the rest is taken as content: a block filter leaves hundreds that no file explains.
MAX_EMPTY_SEARCHES = 3


def identify(live: dict[str, list[Patch]], candidates: Iterable[Candidate], find: Find | None = None) -> list[StackItem]:
    """`live` maps parameters to their patches in order of application. `candidates` are tried first (names seen in the workflow);
    `find` then searches by a patch's tensors. Stops as soon as every patch has its file.
    """
    labels: Labels = {parameter: [None] * len(patches) for parameter, patches in live.items()}
    files: list[FileItem] = []
    left = sum(len(patches) for patches in live.values())
    for candidate in candidates if left else ():
        left -= _label(live, labels, candidate, files)
        if left == 0:
            break
    if left and find is not None:
        _search(live, labels, files, find)
    return arrange(live, labels, files)


def _search(live: dict[str, list[Patch]], labels: Labels, files: list[FileItem], find: Find) -> None:
    empty = 0
    for parameter, patches in live.items():
        for index, patch in enumerate(patches):
            if labels[parameter][index] is not None:
                continue
            candidate = find(patch)
            if candidate is None or _label(live, labels, candidate, files) == 0:
                empty += 1
                if empty == MAX_EMPTY_SEARCHES:
                    return


def _label(live: dict[str, list[Patch]], labels: Labels, candidate: Candidate, files: list[FileItem]) -> int:
    """Labels every application of one file; a file applied twice at different strengths is two items. Returns how many patches it explained."""
    expected = candidate.patches()
    if not expected:
        return 0
    explained = 0
    while (places := _application(live, labels, expected)) is not None:
        sha256 = candidate.sha256()
        if sha256 is None:
            break
        parameter, index = places[0]
        for place_parameter, place_index in places:
            labels[place_parameter][place_index] = len(files)
        patches = tuple(live[place_parameter][place_index] for place_parameter, place_index in places)
        files.append(FileItem(candidate.name, sha256, live[parameter][index].strength, tuple(places), lambda patches=patches: patches))
        explained += len(places)
    return explained


def _application(live: dict[str, list[Patch]], labels: Labels, expected: Sequence[Patch]) -> list[tuple[str, int]] | None:
    """Places of one whole application of the file, all at one strength, or None."""
    first = expected[0]
    tried: set[float] = set()
    for index in _unlabelled(live, labels, first):
        strength = live[first.target.parameter][index].strength
        if strength in tried:
            continue
        tried.add(strength)
        places = [_place(live, labels, patch, strength) for patch in expected]
        if None not in places and len(set(places)) == len(places):
            return [place for place in places if place is not None]
    return None


def _unlabelled(live: dict[str, list[Patch]], labels: Labels, wanted: Patch) -> Iterable[int]:
    parameter, outline = wanted.target.parameter, wanted.outline()
    for index, patch in enumerate(live.get(parameter, ())):
        if labels[parameter][index] is None and patch.outline() == outline and patch.same_values(wanted):
            yield index


def _place(live: dict[str, list[Patch]], labels: Labels, wanted: Patch, strength: float) -> tuple[str, int] | None:
    for index in _unlabelled(live, labels, wanted):
        if live[wanted.target.parameter][index].strength == strength:
            return (wanted.target.parameter, index)
    return None
