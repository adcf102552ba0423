"""When a gateway leaves its cluster. The head is a script here; a real one is lost and comes back in test/sidecar/pipeline/providers/ray.e2e.test.ts."""

from __future__ import annotations

import asyncio
from typing import Any, Callable

import pytest
from refit_ray import cluster, membership
from refit_ray.cluster import Joined, Seen
from refit_ray.membership import Membership, await_gpus

OURS = Joined("2", "head:1", "here", Seen("ours", {"here": 0}))
AWAY = "nothing answers at head:1"


def reason_after(
    looks: list[Seen | str], monkeypatch: Any, serves: bool = True, patience: float = 0.2, note: Callable[[Seen], None] = lambda _: None
) -> str | None:
    """None: it stays."""
    monkeypatch.setattr(membership, "LOOK_SECONDS", 0.01)
    left = list(looks)
    monkeypatch.setattr(cluster, "look", lambda head: left.pop(0) if len(left) > 1 else left[0])

    async def wait() -> str | None:
        try:
            return await asyncio.wait_for(Membership(OURS, lambda: serves, note, patience).ended(), 0.5)
        except asyncio.TimeoutError:
            return None

    return asyncio.run(wait())


@pytest.mark.parametrize(
    ("last", "serves", "reason"),
    [
        (Seen("ours", {"here": 0}), False, None),
        (Seen("another", {"here": 0}), True, "its head began anew"),
        (Seen("ours", {"there": 1}), True, "own node for dead"),
        (AWAY, True, None),
        (AWAY, False, AWAY),
    ],
)
def test_leaves_a_cluster_that_is_another_one_and_one_that_is_gone_with_all_its_actors(last, serves, reason, monkeypatch):
    told = reason_after([Seen("ours", {"here": 0}), AWAY, last], monkeypatch, serves)
    assert told is None if reason is None else reason in (told or "")


def test_tells_of_each_look_at_its_own_cluster(monkeypatch):
    grown = Seen("ours", {"here": 0, "there": 2})
    noted: list[Seen] = []
    reason_after([OURS.seen, AWAY, grown, Seen("another", {"here": 0, "there": 4})], monkeypatch, note=noted.append)
    assert noted == [OURS.seen, grown] and grown.gpus == 2


def test_an_address_where_nothing_listens_is_told_with_the_reason():
    seen = cluster.look("127.0.0.1:9")
    assert isinstance(seen, str) and seen.startswith("nothing answers at 127.0.0.1:9 (")


@pytest.mark.parametrize(
    ("looks", "gpus", "found"),
    [
        ([AWAY, Seen("ours", {"here": 0, "there": 1}), Seen("ours", {"here": 0, "there": 1, "more": 4})], 1.0, 1),
        ([Seen("ours", {"here": 0, "there": 1}), Seen("ours", {"here": 0, "there": 1, "more": 1})], 2.0, 2),
        ([Seen("ours", {"here": 0})], 1.0, 0),
    ],
)
def test_the_first_node_with_a_card_is_waited_for(looks, gpus, found, monkeypatch):
    monkeypatch.setattr(membership, "LOOK_SECONDS", 0.001)
    left = list(looks)
    monkeypatch.setattr(cluster, "look", lambda head: left.pop(0) if len(left) > 1 else left[0])
    assert asyncio.run(await_gpus(OURS, gpus, 0.1)).gpus == found
