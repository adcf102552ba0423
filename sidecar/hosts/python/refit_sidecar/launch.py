"""Runs the sidecar's command line on the Node that pip installed beside it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NoReturn

PACKAGE = Path(__file__).resolve().parent / "package"
ENTRY = PACKAGE / "bin" / "refit-sidecar.mjs"


def main() -> NoReturn:
    if not ENTRY.is_file():
        sys.exit(
            "refit-sidecar: expected the sidecar's program beside this package; only the wheel brings it. Install the wheel, or run: npx refit-sidecar [CLIENT_CANNOT_START]"
        )
    # The plugin's launcher knows where Node is; it lies in the same wheel.
    sys.path.insert(0, str(PACKAGE / "plugin"))
    from refit_sidecar_plugin.launcher import CannotStart, run_command_line

    try:
        # Which Python holds the package: `refit-sidecar update` asks its pip.
        run_command_line(ENTRY, sys.argv[1:], {**os.environ, "REFIT_WHEEL_PYTHON": sys.executable})
    except CannotStart as error:
        sys.exit(error.line())
