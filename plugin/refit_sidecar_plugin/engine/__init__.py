"""A run on an engine, in words that no UI owns. In: what is wanted, tensors per call. Out: the engine's answers, or Unavailable with one clear text.

The desired state travels with every run; nothing is assumed about what an engine holds. It never blocks beyond the caller's `check`.
"""

from .link import Link, Pending, Reply, Unavailable
from .run import EngineRun, RunReport
from .wanted import Range, Wanted
from .wire_tensor import WireTensor

__all__ = ["EngineRun", "Link", "Pending", "Range", "Reply", "RunReport", "Unavailable", "Wanted", "WireTensor"]
