"""Who may call the page's routes: whoever may use the UI itself. In: a request and the UI's own logins. Out: yes or no."""

from __future__ import annotations

import base64
import binascii
import secrets
from typing import Any

from fastapi import FastAPI, Request


def may_call(app: FastAPI, request: Request, api_auth: str | None) -> bool:
    """With --gradio-auth a signed-in page may, with --api-auth ("name:password,name:password") a request with one of its names; with neither, everybody
    who reaches the UI, which is then as open itself.
    """
    page_login = getattr(app, "auth", None) is not None or getattr(app, "auth_dependency", None) is not None
    if not page_login and not api_auth:
        return True
    return (page_login and _signed_in(app, request)) or (bool(api_auth) and _has_password(request, str(api_auth)))


def _signed_in(app: Any, request: Request) -> bool:
    """Gradio 3 and 4 keep signed-in pages in `app.tokens`; 4 adds an id of the running server to the cookie's name."""
    if getattr(app, "auth_dependency", None) is not None:
        return app.auth_dependency(request) is not None
    suffix = f"-{app.cookie_id}" if hasattr(app, "cookie_id") else ""
    cookies = (request.cookies.get(f"access-token{suffix}"), request.cookies.get(f"access-token-unsecure{suffix}"))
    return any(cookie is not None and cookie in app.tokens for cookie in cookies)


def _has_password(request: Request, api_auth: str) -> bool:
    scheme, _, encoded = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return False
    try:
        given = base64.b64decode(encoded, validate=True)
    except binascii.Error:
        return False
    # Every pair is compared, each in constant time.
    return sum(secrets.compare_digest(given, pair.strip().encode()) for pair in api_auth.split(",") if ":" in pair) > 0
