"""Errors for somebody who draws pictures: what it means for the picture, and what to press or type. The code leads to the error reference."""

from __future__ import annotations

from ..client import SidecarError

# By code of the client or the sidecar. What is not here is told in the error's own first sentence.
_WORDS = {
    "CLIENT_NOT_RUNNING": "the engine's helper program did not start in time",
    "CLIENT_CONNECT_FAILED": "the engine's helper program cannot be reached; it is being started again",
    "CLIENT_CONNECTION_LOST": "the connection to the engine's helper program was lost; it is being started again",
    "CLIENT_TIMEOUT": "the engine's helper program did not answer in time",
    "CLIENT_REFUSED": "the engine's helper program is of another version; update Refit Sidecar, then restart the computer's UIs",
    "CLIENT_PROTOCOL": "the engine's helper program is of another version; update Refit Sidecar, then restart the computer's UIs",
    "CLIENT_CLOSED": "the UI is shutting down",
}


def told(error: Exception) -> str:
    """`spoken`, and behind it the code under which the error reference has it: what every message of the plugin shows."""
    code = getattr(error, "code", None)
    return spoken(error) if code is None else f"{spoken(error)} [{code}]"


def spoken(error: Exception) -> str:
    """Completes "not on an engine: ...". No code, and no remedy for those who write programs."""
    if not isinstance(error, SidecarError):
        return str(error)
    known = _WORDS.get(error.code)
    # A text of its own (what is missing, and how to get it) says more than the table.
    return known if known is not None and not error.told else error.message.strip().rstrip(".")
