"""The sidecar's command line for those who have this folder alone: `PYTHON sidecar.py doctor`, with the Python that runs the UI."""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from refit_sidecar_plugin.launcher import CannotStart, find_entry, run_command_line  # noqa: E402

if __name__ == "__main__":
    try:
        run_command_line(find_entry(), sys.argv[1:], os.environ)
    except CannotStart as error:
        sys.exit(error.line())
