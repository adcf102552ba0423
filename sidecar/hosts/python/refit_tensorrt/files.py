"""The serialised engine of a structure: from the store, or built now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Mapping, Sequence

from refit_host.engine_platform import key_and_finger
from refit_host.failure import HostFailure
from refit_host.host.bundle import Bundle

from .binding import Binding, Capability
from .build import Built, WeightsMode, build
from .profiles import Profile
from .store import Identity, PlanStore


@dataclass(frozen=True)
class Plan:
    """`built`: None for one from the store. `proven`: it was compared with PyTorch on this computer, with exactly these versions."""

    data: bytes
    cache: bytes | None
    identity: Identity
    built: Built | None
    proven: bool


class EngineFiles:
    """Engines of one graph bundle for one device."""

    def __init__(
        self, store: PlanStore, binding: Binding, bundle: Bundle, profiles: Sequence[Profile], capability: Capability, device: str, mode: WeightsMode
    ) -> None:  # fmt: skip
        self._store, self._binding, self._bundle, self._mode = store, binding, bundle, mode
        self._profiles, self._capability, self._device = tuple(profiles), capability, device

    def identity(self, variant: str) -> Identity:
        library = (self._binding.name, self._binding.version)
        profiles = " | ".join(profile.text for profile in self._profiles)
        key, finger = key_and_finger(self._bundle.structure, variant, profiles, "tensorrt", library, self._capability, self._device)
        return Identity(key, finger, self._bundle.refit_map)

    def stored(self, variant: str) -> Plan | None:
        """Raises HOST_ENGINE_REFUSED for a release whose engine computed wrong numbers here."""
        if self._mode != "stripped":
            return None
        identity = self.identity(variant)
        found = self._store.find(identity)
        if found is None:
            return None
        if found.plan is None:
            raise refused(identity, float(found.facts.get("error", float("inf"))))
        return Plan(found.plan, found.cache, identity, None, found.proven)

    def build(self, variant: str, values: Mapping[str, int] | None = None) -> Plan:
        """`values`: host addresses of weights by name, for engines that hold weights; those are never kept. Raises what `build.build` raises."""
        built = build(self._binding, self._bundle, variant, self._profiles, self._capability, mode=self._mode, values=values)
        return Plan(built.plan, None, self.identity(variant), built, False)

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
