"""Engines of this host as entries of the engine store: a serialised engine, what the runtime compiled for this device, and how it was checked.

A release of the library that computes wrong numbers here is remembered in the place of its engine. Which host won here lies beside the engines.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any, Sequence

from refit_host.engine_store import EngineFinger, EngineKey, EngineStore

PLAN_FILE = "engine.plan"
CACHE_FILE = "runtime.cache"
FACTS_FILE = "facts.json"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class Identity:
    """Of an engine: what it depends on, what may differ finely, and the refit map that it was built for."""

    key: EngineKey
    finger: EngineFinger
    refit_map: Sequence[Any]


@dataclass(frozen=True)
class Found:
    """`plan` None: this release of the library was refused here. `proven`: made on this computer with exactly these versions; any other has to prove its output."""

    plan: bytes | None
    cache: bytes | None
    facts: dict[str, Any]
    proven: bool


class PlanStore:
    def __init__(self, store: EngineStore) -> None:
        self._store = store

    def find(self, identity: Identity) -> Found | None:
        """None when there is no engine of that key that can be trusted."""
        found = self._store.find(identity.key, identity.finger, identity.refit_map)
        if found is None:
            return None
        facts = _facts(found.files.get(FACTS_FILE, b"{}"))
        plan = found.files.get(PLAN_FILE)
        if plan is None and not found.proven:
            return None  # what another release computed says nothing of this one
        return Found(plan, found.files.get(CACHE_FILE), facts, found.proven)

    def keep(self, identity: Identity, plan: bytes, cache: bytes | None, facts: dict[str, Any]) -> None:
        files = {PLAN_FILE: plan, FACTS_FILE: json.dumps(facts).encode(), **({} if cache is None else {CACHE_FILE: cache})}
        self._store.publish(identity.key, identity.finger, files, identity.refit_map)

    def refuse(self, identity: Identity, facts: dict[str, Any]) -> None:
        """Remembers that this release computes wrong numbers here, so that it is not built again."""
        self._store.publish(
            identity.key, identity.finger, {FACTS_FILE: json.dumps({**facts, "refused": True}).encode()}, identity.refit_map
        )

    def record_choice(self, structure: str, dtype: str, facts: dict[str, Any]) -> None:
        """Which host won here; the sidecar's `auto` reads it (`sidecar/src/pipeline/resolve/host-choice.ts`)."""
        record = {"formatVersion": FORMAT_VERSION, "writtenAt": int(time.time()), "structure": structure, "dtype": dtype, **facts}
        self._store.write_note(f"choice-{structure[:32]}-{dtype}.json", record)


def _facts(data: bytes) -> dict[str, Any]:
    try:
        facts = json.loads(data)
    except ValueError:
        return {}
    return facts if isinstance(facts, dict) else {}
