"""Makes loader nodes run again when an adapter file that their model used was rewritten on disk.

ComfyUI caches a node by its inputs and its fingerprint. The fingerprint of a loader holds a counter per checkpoint, which grows when a file
used by an earlier run is no longer the file that was used. Files that no run used change nothing: a new LoRA does not restart workflows.
"""

from __future__ import annotations

import threading

from ...files import Stamp, stamp

_lock = threading.Lock()
_used: dict[str, dict[str, Stamp]] = {}
_counter: dict[str, int] = {}


def used(checkpoint: str, path: str, seen: Stamp) -> None:
    """A run on this checkpoint used this file as it was at `seen`."""
    with _lock:
        _used.setdefault(checkpoint, {})[path] = seen


def freshness_of(checkpoint: str) -> int:
    with _lock:
        files = _used.get(checkpoint, {})
        changed = [path for path, seen in files.items() if (now := stamp(path)) is not None and now != seen]
        for path in changed:
            del files[path]
        if changed:
            _counter[checkpoint] = _counter.get(checkpoint, 0) + 1
        return _counter.get(checkpoint, 0)
