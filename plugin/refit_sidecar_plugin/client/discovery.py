"""Where a running sidecar tells its address and token: ``sidecar.json`` in its data folder."""

from __future__ import annotations

import json
import os
import stat
import sys
from dataclasses import dataclass, field
from pathlib import Path

from .errors import SidecarUnavailable

_MAX_BYTES = 64 * 1024


@dataclass(frozen=True)
class Address:
    ws_url: str
    #: Never shown: not in repr, not in errors, not in logs.
    token: str = field(repr=False)
    pid: int = 0
    version: str = ""


def default_data_dir() -> Path:
    """REFIT_DATA_DIR, else the user's data folder as the sidecar chooses it."""
    given = os.environ.get("REFIT_DATA_DIR")
    if given:
        return Path(given)
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or str(Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = str(Path.home() / "Library" / "Application Support")
    else:
        base = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(base) / "refit-sidecar"


def read_discovery(data_dir: Path | None = None) -> Address:
    """Raises CLIENT_NOT_RUNNING when there is no usable file, CLIENT_DISCOVERY_UNSAFE when others could have written or read it."""
    path = (data_dir or default_data_dir()) / "sidecar.json"
    try:
        # Not blocking: whatever lies there may be a pipe that nobody writes to.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0))
        with os.fdopen(handle, "rb") as file:
            info = os.fstat(file.fileno())
            if not stat.S_ISREG(info.st_mode):
                raise SidecarUnavailable("CLIENT_NOT_RUNNING")
            if hasattr(os, "geteuid") and (info.st_uid not in (os.geteuid(), 0) or info.st_mode & 0o077):
                raise SidecarUnavailable("CLIENT_DISCOVERY_UNSAFE")
            fields = json.loads(file.read(_MAX_BYTES))
        ws_url, token, pid, version = fields["ws_url"], fields["token"], fields["pid"], fields["version"]
    except (OSError, ValueError, KeyError, TypeError):
        raise SidecarUnavailable("CLIENT_NOT_RUNNING") from None
    if not (isinstance(ws_url, str) and isinstance(token, str) and type(pid) is int and isinstance(version, str)):
        raise SidecarUnavailable("CLIENT_NOT_RUNNING")
    return Address(ws_url, token, pid, version)
