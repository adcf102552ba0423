"""What is beyond an engine."""

from __future__ import annotations


class NotServed(Exception):
    """This call or run is beyond an engine; the UI's own path has to do it. The text completes the sentence "not on an engine: ...";
    `code` is a row of the error reference (RUN_...).
    """

    def __init__(self, text: str, code: str) -> None:
        super().__init__(text)
        self.code = code
