"""Two looks at a module in words. In: snapshots, attributes. Out: whether they are alike, and the first thing that differs. Never: a guess; what cannot be
compared counts as changed.
"""

from __future__ import annotations

from typing import Any

from .snapshot import Snapshot


def equal(one: Any, other: Any) -> bool:
    if one is other:
        return True
    try:
        return type(one) is type(other) and bool(one == other)
    except Exception:  # a comparison of foreign objects: what cannot be compared counts as changed
        return False


def structure_difference(before: Snapshot, now: Snapshot) -> str:
    """The first thing that differs between two structures, in words."""
    if before.structure.modules != now.structure.modules:
        one, other = dict(before.structure.modules), dict(now.structure.modules)
        changed = [name for name in [*one, *other] if one.get(name) is not other.get(name)]
        return f"the module {changed[0] or 'itself'} was exchanged, added or removed" if changed else "its modules are in another order"
    one, other = {row[0]: row for row in before.structure.tensors}, {row[0]: row for row in now.structure.tensors}
    changed = [name for name in [*one, *other] if one.get(name) != other.get(name)]
    if not changed:
        return "its parameters are in another order"
    old, new = one.get(changed[0]), other.get(changed[0])
    if old is None or new is None:
        return f"{changed[0]} was {'added' if old is None else 'removed'}"
    return f"{changed[0]} was {list(old[1])} {old[2]} and is {list(new[1])} {new[2]}"
