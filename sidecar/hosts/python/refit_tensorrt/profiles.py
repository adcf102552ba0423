"""Optimisation profiles: which sizes one engine serves, by the device's memory. All profiles of an engine share its weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Iterable, Mapping, Sequence

GIB = 1 << 30
# Below this much device memory an engine serves small batches and pictures only: its tuning must not take memory that steps need.
SMALL_DEVICE_BYTES = 12 * GIB
LATENT = 8
Port = Mapping[str, Any]
Range = tuple[int, int, int]

# Latent side that a family's pictures usually have.
USUAL_SIDE = {"sd15": 64, "sd2": 96, "sdxl": 128, "sdxl-refiner": 128}
OTHER_SIDE = 128
# An axis that no rule below knows (pooled widths are fixed, so there is none today) may be anything in here.
ANY: Range = (1, 1, 4096)


@dataclass(frozen=True)
class Profile:
    """min, best and max of every dynamic axis."""

    axes: Mapping[str, Range]

    def ranges(self, port: Port) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        """(min, opt, max) shapes of one input."""
        return tuple(tuple(self.axis(a)[i] if isinstance(a, str) else a for a in port["shape"]) for i in range(3))  # type: ignore[return-value]

    def axis(self, name: str) -> Range:
        """`height_4` is the height divided by 4, rounded up."""
        stem, _, divisor = name.rpartition("_")
        if stem in self.axes and divisor.isdigit():
            low, best, high = (-(-size // int(divisor)) for size in self.axes[stem])
            return low, best, high
        return self.axes.get(name, ANY)

    def covers(self, port: Port, shape: Sequence[int]) -> bool:
        low, _, high = self.ranges(port)
        return len(shape) == len(low) and all(a <= size <= b for a, size, b in zip(low, shape, high))

    @property
    def text(self) -> str:
        return ",".join(f"{name}={'-'.join(map(str, sizes))}" for name, sizes in sorted(self.axes.items()))


def _profile(side: int, batch: Range, most: int, tokens: Range, even: bool) -> Profile:
    # Transformer families cut pictures into 2x2 patches; UNets take any side.
    low = 8 if even else 4
    return Profile({"batch": batch, "height": (low, side, most), "width": (low, side, most), "tokens": tokens, "frames": (1, 1, 32)})


def profiles_for(family: str, device_bytes: int) -> tuple[Profile, ...]:
    """Profiles in order of preference: the usual sizes first. `device_bytes`: memory of the device, or what may be taken of it."""
    side = USUAL_SIDE.get(family, OTHER_SIDE)
    even = family not in USUAL_SIDE
    tokens = (1, 77, 512) if even else (1, 77, 308)
    usual = _profile(side, (1, 2, 2), 1280 // LATENT, tokens, even)
    if device_bytes < SMALL_DEVICE_BYTES:
        return (usual,)
    return usual, _profile(side, (1, 4, 8), 1536 // LATENT, tokens, even)


def choose(profiles: Sequence[Profile], ports: Iterable[Port], shapes: Mapping[str, Sequence[int]]) -> int | None:
    """Index of the first profile that covers every input, None when none does."""
    ports = list(ports)
    for index, profile in enumerate(profiles):
        if all(profile.covers(port, shapes[port["name"]]) for port in ports):
            return index
    return None


def limits(profiles: Sequence[Profile]) -> str:
    """The widest profile in the user's words."""
    axes = profiles[-1].axes
    return f"batch 1-{axes['batch'][2]}, up to {axes['height'][2] * LATENT} px a side, up to {axes['tokens'][2]} tokens"
