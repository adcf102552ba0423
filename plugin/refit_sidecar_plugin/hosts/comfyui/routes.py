"""The page's door: everything goes through ComfyUI's own server, under /refit/, and only calls of the relay's list go on to the sidecar."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

from ...engine import Unavailable
from ...service import RelayRefused
from .plugin import plugin

# A page's calls are small; anything larger is no page.
MAX_BODY_BYTES = 64 * 1024


def add_routes(server: Any) -> None:
    routes = server.routes

    @routes.get("/refit/facts")
    async def facts(_: web.Request) -> web.Response:
        return web.json_response(plugin().facts.snapshot())

    @routes.get("/refit/read/{method}")
    async def read(request: web.Request) -> web.Response:
        params = {name: _number(value) for name, value in request.query.items()}
        return await _answer(plugin().relay.read, request.match_info["method"], params)

    @routes.post("/refit/change/{method}")
    async def change(request: web.Request) -> web.Response:
        refused = refuse(request)
        if refused is not None:
            return refused
        body = await request.content.read(MAX_BODY_BYTES + 1)
        try:
            params = json.loads(body) if len(body) <= MAX_BODY_BYTES else None
        except ValueError:
            params = None
        if not isinstance(params, dict):
            return _error(400, "PAGE_BODY_INVALID", "Expected one small JSON object.")
        return await _answer(plugin().relay.change, request.match_info["method"], params)


def refuse(request: web.Request) -> web.Response | None:
    """Other sites may not press buttons: a form cannot send application/json, and a page of another origin is named by its Origin header."""
    if request.content_type != "application/json":
        return _error(415, "PAGE_BODY_REFUSED", "Expected application/json.")
    origin = request.headers.get("Origin")
    if origin is not None and urlsplit(origin).netloc.lower() != request.headers.get("Host", "").lower():
        return _error(403, "PAGE_ORIGIN_FORBIDDEN", "This page is of another origin.")
    if request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
        return _error(403, "PAGE_ORIGIN_FORBIDDEN", "This page is of another site.")
    return None


async def _answer(relay: Any, method: str, params: dict[str, Any]) -> web.Response:
    try:
        return web.json_response(await asyncio.get_running_loop().run_in_executor(None, relay, method, params))
    except RelayRefused:
        return _error(404, "PAGE_CALL_UNKNOWN", "Pages have no such call.")
    except Unavailable as error:
        return _error(503, error.code, str(error))


def _error(status: int, code: str, message: str) -> web.Response:
    return web.json_response({"code": code, "message": message}, status=status)


def _number(value: str) -> str | int:
    return int(value) if value.isdecimal() else value
