"""Errors of the client. Codes of the sidecar (see ``messages.ERRORS``) and the client's own ``CLIENT_…`` codes never overlap."""

from __future__ import annotations

from ..messages import CLIENT_ERRORS, ERRORS


class SidecarError(Exception):
    """Anything that goes wrong with the sidecar. ``str()`` is one clear line with the remedy; no token, path or segment name is in it.

    ``code`` is stable; ``fault`` tells who can act: "client", "sidecar", "host", "file", or "connection" for the client's own codes.
    """

    fault = "connection"

    def __init__(self, code: str, message: str | None = None, remedy: str | None = None, reason: str | None = None) -> None:
        entry = CLIENT_ERRORS.get(code) or ERRORS.get(code)
        self.code = code
        self.message = message or (entry.summary if entry else "The sidecar reported an error.")
        self.remedy = remedy or (entry.remedy if entry else "")
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
