"""Which calls of a page are let in, whatever web server the UI has. In: headers, bodies, a call. Out: status and data for the answer.

Other sites may not press buttons: a form cannot send application/json, and a page of another origin is named by its Origin header.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from ..client import SidecarError
from .relay import RelayRefused

# A page's calls are small; anything larger is no page.
MAX_BODY_BYTES = 64 * 1024


class PageRefused(Exception):
    """The call is not let in; `status` is the HTTP status of the answer."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


def check_change(headers: Mapping[str, str]) -> None:
    """`headers` answers to any case, as those of aiohttp and starlette do. Raises PageRefused."""
    if headers.get("Content-Type", "").split(";")[0].strip().lower() != "application/json":
        raise PageRefused(415, "PAGE_BODY_REFUSED", "Expected application/json.")
    origin = headers.get("Origin")
    if origin is not None and urlsplit(origin).netloc.lower() != headers.get("Host", "").lower():
        raise PageRefused(403, "PAGE_ORIGIN_FORBIDDEN", "This page is of another origin.")
    if headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
        raise PageRefused(403, "PAGE_ORIGIN_FORBIDDEN", "This page is of another site.")


def body_object(body: bytes) -> dict[str, Any]:
    """The JSON object of a POST; `body` holds at most one byte more than is allowed. Raises PageRefused."""
    value = _object(body) if len(body) <= MAX_BODY_BYTES else None
    if value is None:
        raise PageRefused(400, "PAGE_BODY_INVALID", "Expected one small JSON object.")
    return value


def query_object(text: str) -> dict[str, Any]:
    """The JSON object of a GET's `params`. Raises PageRefused."""
    value = _object(text)
    if value is None:
        raise PageRefused(400, "PAGE_PARAMS_INVALID", "Expected `params` to be a JSON object.")
    return value


def answer(work: Callable[..., dict[str, Any]], *arguments: Any) -> tuple[int, dict[str, Any]]:
    """HTTP status and data. Blocking; call it off the UI's event loop, which also draws every other page."""
    try:
        return 200, work(*arguments)
    except PageRefused as error:
        return refusal(error)
    except RelayRefused:
        return refusal(PageRefused(404, "PAGE_CALL_UNKNOWN", "Pages have no such call."))
    except SidecarError as error:
        # Its text ends with its code.
        return 503, {"code": error.code, "message": str(error)}


def refusal(error: PageRefused) -> tuple[int, dict[str, Any]]:
    return error.status, {"code": error.code, "message": f"{error} [{error.code}]"}


def _object(text: str | bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
