"""The serialised engine of a structure: from the store, or built now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Mapping, Sequence

from refit_host.failure import HostFailure
from refit_host.host.bundle import Bundle

from .binding import Binding, Capability
from .build import Built, WeightsMode, build
from .profiles import Profile
from .store import EngineKey, EngineStore


@dataclass(frozen=True)
class Plan:
    """`built`: None for one from the store."""

    data: bytes
    cache: bytes | None
    key: EngineKey
    built: Built | None


class EngineFiles:
    """Engines of one graph bundle for one device."""

    def __init__(
        self, store: EngineStore, binding: Binding, bundle: Bundle, profiles: Sequence[Profile], capability: Capability, device: str, mode: WeightsMode
    ) -> None:  # fmt: skip
        self._store, self._binding, self._bundle, self._mode = store, binding, bundle, mode
        self._profiles, self._capability, self._device = tuple(profiles), capability, device

    def key(self, variant: str) -> EngineKey:
        # RTX engines serve every device of their capability; others are tuned to the device they were built on.
        return EngineKey(
            self._bundle.structure, variant, " | ".join(profile.text for profile in self._profiles), f"{self._binding.name} {self._binding.version}",
            f"{self._capability[0]}.{self._capability[1]}", "" if self._binding.rtx else self._device,
        )  # fmt: skip

    def stored(self, variant: str) -> Plan | None:
        """Raises HOST_ENGINE_REFUSED for an engine of this key that computed wrong numbers."""
        if self._mode != "stripped":
            return None
        key = self.key(variant)
        found = self._store.find(key)
        if found is None:
            return None
        if found.plan is None:
            raise refused(key, float(found.facts.get("error", float("inf"))))
        return Plan(found.plan, found.cache, key, None)

    def build(self, variant: str, values: Mapping[str, int] | None = None) -> Plan:
        """`values`: host addresses of weights by name, for engines that hold weights; those are never kept. Raises what `build.build` raises."""
        built = build(self._binding, self._bundle, variant, self._profiles, self._capability, mode=self._mode, values=values)
        return Plan(built.plan, None, self.key(variant), built)

    def keep(self, plan: Plan, cache: bytes | None, facts: dict[str, Any]) -> None:
        if self._mode == "stripped":
            self._store.keep(plan.key, plan.data, cache, facts)

    def refuse(self, plan: Plan, error: float) -> HostFailure:
        self._store.refuse(plan.key, {"error": error if error != float("inf") else 1e30})
        return refused(plan.key, error)


def refused(key: EngineKey, error: float) -> HostFailure:
    return HostFailure("HOST_ENGINE_REFUSED", f"{key.library} computes wrong numbers in this engine (output {error:.3g} away from PyTorch's, relative); "
                       "it is not used. The torch host serves; update the library.", {"error": min(error, 1e30), "library": key.library})  # fmt: skip
