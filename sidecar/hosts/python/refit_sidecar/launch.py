"""Runs the sidecar's command line on the Node that pip installed beside it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

PACKAGE = Path(__file__).resolve().parent / "package"
ENTRY = PACKAGE / "bin" / "refit-sidecar.mjs"


def main() -> NoReturn:
    # The plugin's launcher knows where Node is; it lies in the same wheel.
    sys.path.insert(0, str(PACKAGE / "plugin"))
    from refit_sidecar_plugin.launcher import CannotStart, find_node

    try:
        node = find_node()
    except CannotStart as error:
        sys.exit(f"refit-sidecar: {error}")
    # Which Python holds the package: `refit-sidecar update` asks its pip.
    environment = {**os.environ, "REFIT_WHEEL_PYTHON": sys.executable}
    command = [node, str(ENTRY), *sys.argv[1:]]
    if sys.platform != "win32":
        os.execve(node, command, environment)
    # Windows has no exec: the console sends Ctrl-C to both, and Node's own end decides.
    with subprocess.Popen(command, env=environment) as child:
        while True:
            try:
                sys.exit(child.wait())
            except KeyboardInterrupt:
                continue
