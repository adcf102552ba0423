"""One error class for everything that can go wrong on purpose."""

from __future__ import annotations

from typing import Any, Mapping


class HostFailure(Exception):
    """A failure with a stable code. `message` says what was expected, what came and what to do; it holds no path."""

    def __init__(self, code: str, message: str, evidence: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.evidence = dict(evidence or {})

    def __reduce__(self) -> tuple[Any, ...]:
        return HostFailure, (self.code, self.message, self.evidence)


def expect(condition: bool, code: str, message: str, **evidence: Any) -> None:
    """Raises HostFailure unless `condition` holds."""
    if not condition:
        raise HostFailure(code, message, evidence)
