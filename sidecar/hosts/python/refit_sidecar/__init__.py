"""Refit Sidecar for Python: an engine under any torch module, refitted when its weights change.

    from refit_sidecar import RefitModule
    pipe.unet = RefitModule(pipe.unet)

Any module in, the module itself out; nothing of a UI is imported. docs/use/python.md has the calls. In the wheel the sidecar (a Node program) lies beside, in the
folder `package`, and `refit-sidecar` on the command line starts it: that needs no PyTorch, so it is imported by the first name that is asked for.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .module import RefitModule, refit_module_weights
    from .saved import SavedModuleError
    from .shapes import RangeError
    from .states import State
    from .weights import Refit

__all__ = ["RangeError", "Refit", "RefitModule", "SavedModuleError", "State", "refit_module_weights"]
_HOME = {
    "RangeError": "shapes",
    "Refit": "weights",
    "RefitModule": "module",
    "SavedModuleError": "saved",
    "State": "states",
    "refit_module_weights": "module",
}

# The engine hosts' packages lie beside this one in a checkout, and in the sidecar's package in the wheel.
_HOSTS = Path(__file__).resolve().parent / "package" / "hosts" / "python"
if _HOSTS.is_dir() and str(_HOSTS) not in sys.path:
    sys.path.append(str(_HOSTS))


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    try:
        return getattr(import_module(f".{_HOME[name]}", __name__), name)
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise ImportError(
            f"refit_sidecar.{name} needs PyTorch in this Python: install torch (the command line and the sidecar do without)"
        ) from error
