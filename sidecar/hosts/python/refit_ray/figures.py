"""What the way through the gateway costs a step: from its pipe to its pipe, without what the host itself took."""

from __future__ import annotations

from collections import deque

from .protocol import FiguresNotification

# The newest ones; two quantiles of them are told.
KEPT = 5000


class Figures:
    def __init__(self) -> None:
        self.steps = 0
        self._added_ms: deque[float] = deque(maxlen=KEPT)

    def note(self, added_ms: float) -> None:
        self.steps += 1
        self._added_ms.append(added_ms)

    def row(self) -> FiguresNotification:
        ordered = sorted(self._added_ms)

        def at(share: float) -> float | None:
            return round(ordered[min(len(ordered) - 1, int(len(ordered) * share))], 3) if ordered else None

        return FiguresNotification(steps=self.steps, p50Ms=at(0.5), p99Ms=at(0.99))
