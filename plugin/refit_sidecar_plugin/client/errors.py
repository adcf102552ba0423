"""Errors of the client. Codes of the sidecar (see ``messages.ERRORS``) and the client's own ``CLIENT_…`` codes never overlap."""

from __future__ import annotations

from typing import NamedTuple

from ..messages import ERRORS


class _Own(NamedTuple):
    message: str
    remedy: str


#: Codes that arise on this side of the wire.
CLIENT_ERRORS: dict[str, _Own] = {
    "CLIENT_NOT_RUNNING": _Own("No sidecar is running.", "Start it (refit-sidecar serve), or set REFIT_DATA_DIR to its data folder."),
    "CLIENT_DISCOVERY_UNSAFE": _Own("sidecar.json is not only this user's.", "Remove the file and start the sidecar again as this user."),
    "CLIENT_CONNECT_FAILED": _Own("The sidecar could not be reached.", "See whether it still runs; it may have been restarted."),
    "CLIENT_REFUSED": _Own("The sidecar refused the connection.", "Restart the sidecar; update plugin and sidecar to the same version."),
    "CLIENT_CONNECTION_LOST": _Own(
        "The connection to the sidecar was lost before it answered.", "Prepare again; the sidecar may have been restarted."
    ),
    "CLIENT_TIMEOUT": _Own("The sidecar did not answer in time.", "See the sidecar's log; it may be busy building an engine."),
    "CLIENT_INTERRUPTED": _Own("The call was interrupted here.", "None."),
    "CLIENT_PROTOCOL": _Own("The sidecar sent something that is not the protocol.", "Update plugin and sidecar to the same version."),
    "CLIENT_LIBRARY_MISSING": _Own(
        "The Python package websockets (11 or newer) is missing.", "Install the plugin's requirements.txt into the UI's Python."
    ),
    "CLIENT_CLOSED": _Own("The client was closed.", "Make a new one."),
}


class SidecarError(Exception):
    """Anything that goes wrong with the sidecar. ``str()`` is one clear line with the remedy; no token, path or segment name is in it.

    ``code`` is stable; ``fault`` tells who can act: "client", "sidecar", "host", "file", or "connection" for the client's own codes.
    """

    fault = "connection"

    def __init__(self, code: str, message: str | None = None, remedy: str | None = None, reason: str | None = None) -> None:
        own = CLIENT_ERRORS.get(code)
        entry = ERRORS.get(code)
        self.code = code
        self.message = message or (own.message if own else entry.summary if entry else "The sidecar reported an error.")
        self.remedy = remedy or (own.remedy if own else entry.remedy if entry else "")
        self.reason = reason
        #: Whether the text was written for this one case.
        self.told = message is not None
        sentence = self.message if self.message.endswith((".", "!", "?")) else f"{self.message}."
        super().__init__(f"{sentence} {self.remedy} [{code}]".replace("  ", " "))

    def again(self) -> SidecarError:
        """An equal exception to raise: one that is raised over and over collects tracebacks."""
        return type(self)(self.code, self.message if self.told else None, self.remedy, self.reason)


class SidecarUnavailable(SidecarError):
    """There is no sidecar to talk to, or no longer: fall back to the UI's own path."""


class SidecarInterrupted(SidecarError):
    """The interrupt hook asked to stop waiting. A late answer is dropped."""


class SidecarRefused(SidecarError):
    """The sidecar answered with an error of its table."""

    def __init__(
        self, code: str, message: str | None = None, remedy: str | None = None, reason: str | None = None, fault: str | None = None
    ) -> None:
        super().__init__(code, message, remedy, reason)
        entry = ERRORS.get(code)
        self.fault = fault or (entry.fault if entry else "sidecar")


def from_reply(error: object) -> SidecarRefused:
    """The exception for the ``error`` member of a reply. Anything may be missing: the other side may be newer."""
    fields = error if isinstance(error, dict) else {}
    given = fields.get("data")
    data = given if isinstance(given, dict) else {}

    def text(source: dict, name: str) -> str | None:
        value = source.get(name)
        return value if isinstance(value, str) else None

    return SidecarRefused(
        text(data, "code") or "WIRE_INTERNAL", text(fields, "message"), text(data, "remedy"), text(data, "reason"), text(data, "fault")
    )
