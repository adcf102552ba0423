"""The serialised engine of a structure: from the store, or built now."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, Mapping, Sequence

from refit_host.engine_platform import key_and_finger
from refit_host.failure import HostFailure
from refit_host.host.bundle import Bundle

from .binding import Binding, Capability
from .build import Built, WeightsMode, build
from .profiles import Profile
from .store import Identity, PlanStore

log = logging.getLogger("refit_host")


@dataclass(frozen=True)
class Plan:
    """`profiles`: the sizes it serves. `built`: None for one from the store. `proven`: it was compared with PyTorch on this computer, with exactly these versions."""

    data: bytes
    cache: bytes | None
    identity: Identity
    profiles: tuple[Profile, ...]
    built: Built | None
    proven: bool


class EngineFiles:
    """Engines of one graph bundle for one device."""

    def __init__(
        self, store: PlanStore, binding: Binding, bundle: Bundle, profiles: Sequence[Profile], capability: Capability, device: str, mode: WeightsMode,
        scratch_bytes: int,
    ) -> None:  # fmt: skip
        """`scratch_bytes`: device memory that a step may take beside the weights."""
        self._store, self._binding, self._bundle, self._mode = store, binding, bundle, mode
        self._capability, self._device, self._scratch_bytes = capability, device, scratch_bytes
        # With all sizes where their scratch memory fits, else with the usual ones alone.
        every = tuple(profiles)
        self._choices = (every, every[:1]) if len(every) > 1 else (every,)

    def identity(self, variant: str, profiles: Sequence[Profile]) -> Identity:
        library = (self._binding.name, self._binding.version)
        text = " | ".join(profile.text for profile in profiles)
        key, finger = key_and_finger(self._bundle.structure, variant, text, "tensorrt", library, self._capability, self._device)
        return Identity(key, finger, self._bundle.refit_map)

    def stored(self, variant: str) -> Plan | None:
        """Raises HOST_ENGINE_REFUSED for a release whose engine computed wrong numbers here."""
        if self._mode != "stripped":
            return None
        for profiles in self._choices:
            identity = self.identity(variant, profiles)
            found = self._store.find(identity)
            if found is None:
                continue
            if found.plan is None:
                raise refused(identity, float(found.facts.get("error", float("inf"))))
            return Plan(found.plan, found.cache, identity, profiles, None, found.proven)
        return None

    def build(self, variant: str, values: Mapping[str, int] | None = None) -> Plan:
        """`values`: host addresses of weights by name, for engines that hold weights; those are never kept. Raises what `build.build` raises."""
        for profiles in self._choices:
            try:
                built = build(self._binding, self._bundle, variant, profiles, self._capability, scratch_bytes=self._scratch_bytes, at_hand=True,
                              mode=self._mode, values=values)  # fmt: skip  # pyright: ignore[reportArgumentType]  checked where the option is read
            except HostFailure as failure:
                if not failure.evidence.get("scratch") or profiles is self._choices[-1]:
                    raise
                log.info("%s; trying the usual sizes alone", failure.message)
                continue
            return Plan(built.plan, None, self.identity(variant, profiles), profiles, built, False)
        raise AssertionError("there is always a last choice")

    def keep(self, plan: Plan, cache: bytes | None, facts: dict[str, Any]) -> None:
        if self._mode == "stripped":
            self._store.keep(plan.identity, plan.data, cache, facts)

    def refuse(self, plan: Plan, error: float) -> HostFailure:
        """Only what was built here says something about this release here."""
        if plan.built is not None:
            self._store.refuse(plan.identity, {"error": error if error != float("inf") else 1e30})
        return refused(plan.identity, error)


def refused(identity: Identity, error: float) -> HostFailure:
    library = f"{identity.key.library.split()[0]} {identity.finger.libraryVersion}"
    return HostFailure("HOST_ENGINE_REFUSED", f"{library} computes wrong numbers in this engine (output {error:.3g} away from PyTorch's, relative); "
                       "it is not used. The torch host serves; update the library.", {"error": min(error, 1e30), "library": library})  # fmt: skip
