"""A run on an engine, in words that no UI owns. In: what is wanted, tensors per call. Out: the engine's answers, or a SidecarError with one clear text.

The desired state travels with every run; nothing is assumed about what an engine holds. It never waits beyond the caller's `check`.
"""

from .choices import HOSTS, PRECISIONS
from .desired_state import StackEntry, Wanted
from .link import Link
from .run import EngineRun, Lent, RunReport

__all__ = ["HOSTS", "PRECISIONS", "EngineRun", "Lent", "Link", "RunReport", "StackEntry", "Wanted"]
