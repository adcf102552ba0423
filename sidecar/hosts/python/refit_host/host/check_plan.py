"""Refuses a plan that would leave the engine with weights of no stack. Nothing has been computed yet."""

from __future__ import annotations

from ..failure import HostFailure, expect
from ..files.delta import DeltaFile, StackFile
from ..weights.refit import Weights
from ..wire.messages import Plan


def check_plan(plan: Plan, stack: tuple[StackFile, ...], files: list[DeltaFile], weights: Weights, fixed: frozenset[str]) -> list[int]:
    """Slots that the plan writes. Raises HOST_PLAN_INVALID, HOST_PARAMETER_UNKNOWN, HOST_NOT_REFITTABLE."""
    same = plan.stack == tuple((item.sha256, item.strength) for item in stack)
    expect(
        same, "HOST_PLAN_INVALID", "expected the plan's stack to be the stack of delta files, in the same order and at the same strengths"
    )
    written = _written(plan, weights, fixed)
    # That the engine has all that a file touches was proved when the file was read; of a plan that is not full, the weights ask for what it lacks.
    for file in files if plan.full else ():
        for name in sorted(file.touched):
            weights.slot(name)
            expect(name in written, "HOST_PLAN_INVALID", f"expected a full plan to write {name}, which the stack touches", parameter=name)
    total = len(weights.layout.slots)
    expect(
        not plan.full or len(written) == total,
        "HOST_PLAN_INVALID",
        f"expected a full plan to write all {total} parameters, got {len(written)}",
    )
    return list(written.values())


def _written(plan: Plan, weights: Weights, fixed: frozenset[str]) -> dict[str, int]:
    """Name and slot of each parameter that the plan writes."""
    # Every swap asks this for hundreds of names: all at once first, one by one to name the one that is wrong.
    known = weights.layout.by_name
    slots = [known.get(name) for name in plan.writes]
    written = {slot.name: slot.index for slot in slots if slot is not None}
    if len(written) == len(plan.writes) and (not plan.partial or fixed.isdisjoint(written)):
        return written
    seen: set[str] = set()
    for name in plan.writes:
        expect(name not in seen, "HOST_PLAN_INVALID", f"expected every parameter once, {name} is planned twice", parameter=name)
        seen.add(name)
        weights.slot(name)
        if name in fixed and plan.partial:
            raise HostFailure(
                "HOST_NOT_REFITTABLE",
                f"this engine cannot change {name}; it was not built refittable for it (NEEDS_RECOMPILE)",
                {"parameter": name},
            )
    return written
