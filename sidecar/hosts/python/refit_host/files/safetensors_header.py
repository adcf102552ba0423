"""The safetensors container's header: every rule checked before a byte of data is read.

The sidecar has checked these files too; a host checks again because the file may have been replaced since.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..checked import tensor_header
from ..checked.tensor_header import Entry
from ..failure import HostFailure


@dataclass(frozen=True)
class Header:
    entries: dict[str, Entry]
    metadata: dict[str, str]
    size_bytes: int


def missing(path: Path, error: OSError) -> HostFailure:
    """A file that cannot be opened or looked at."""
    failure = HostFailure(
        "HOST_FILE_MISSING",
        f"expected a readable file; the system says: {error.strerror}. Put it back, or choose another.",
        {"name": path.name},
    )
    failure.__cause__ = error
    return failure


def read_header(path: Path) -> Header:
    """Reads and checks a header. Raises HOST_FILE_MISSING, or HOST_FILE_INVALID naming the rule that is broken."""

    def bad(reason: str, cause: Exception | None = None) -> HostFailure:
        failure = HostFailure(
            "HOST_FILE_INVALID", f"expected a complete safetensors file; {reason}. Copy the file again.", {"name": path.name}
        )
        failure.__cause__ = cause
        return failure

    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = tensor_header.header_length(file.read(8), size)
            header = tensor_header.parse_header(file.read(length), size)
    except OSError as error:
        raise missing(path, error) from error
    except tensor_header.HeaderError as error:
        raise bad(f"{error} [{error.code}]", error) from error
    return Header(header.entries, header.metadata, size)
