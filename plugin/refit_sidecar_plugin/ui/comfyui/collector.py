"""Python's collector of circles stops every thread while it goes through all objects of ComfyUI's process: 0.3 to 0.5 s. It does so when enough new objects were
made, in the middle of a step as well.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collector_waits() -> Iterator[None]:
    """For moments in which thousands of small objects are made and dropped again."""
    ran = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if ran:
            gc.enable()


@contextmanager
def old_objects_rest() -> Iterator[None]:
    """For the steps of a picture: the collector looks at what is made meanwhile, and not at what was there before. What somebody else has frozen stays so."""
    if gc.get_freeze_count():
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
