"""Refit Sidecar for Python: an engine under any torch module, refitted when its weights change.

    from refit_sidecar import RefitModule
    pipe.unet = RefitModule(pipe.unet)

Any module in, the module itself out; nothing of a UI is imported. docs/python.md has the calls.
"""

from __future__ import annotations

from .module import RefitModule, refit_module_weights
from .saved import SavedModuleError
from .shapes import RangeError
from .states import State
from .weights import Refit

__all__ = ["RangeError", "Refit", "RefitModule", "SavedModuleError", "State", "refit_module_weights"]
