"""When the live weights of an engine are written, for whoever reads them outside of a step."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import Iterator


class Writes:
    """`count` and `still` say whether the weights stood still between two moments; `held` keeps them so, and lets a commit wait."""

    def __init__(self) -> None:
        self.count = 0
        self.still = True
        self._lock = threading.Lock()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Around every write of live weights, the device's end of it included."""
        with self._lock:
            self.count += 1
            self.still = False
            try:
                yield
            finally:
                self.still = True

    @contextmanager
    def held(self) -> Iterator[None]:
        """Nothing is written within."""
        with self._lock:
            yield
