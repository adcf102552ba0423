"""The page's door: everything goes through ComfyUI's own server, under /refit/, and only calls of the relay's list go on to the sidecar."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

from ...client import SidecarError, SidecarRefused
from ...engine import Wanted
from ...service import RelayRefused
from .nodes.inputs import source_of
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
        params = _object(request.query.get("params", "{}"))
        if params is None:
            return _error(400, "PAGE_PARAMS_INVALID", "Expected `params` to be a JSON object.")
        return await _answer(plugin().relay.read, request.match_info["method"], params)

    @routes.post("/refit/change/{method}")
    async def change(request: web.Request) -> web.Response:
        params, refused = await _body(request)
        if refused is not None:
            return refused
        return await _answer(plugin().relay.change, request.match_info["method"], params)

    @routes.post("/refit/warm")
    async def warm(request: web.Request) -> web.Response:
        """`{"checkpoint": name}` as ComfyUI lists it; the page knows no ids of files."""
        params, refused = await _body(request)
        if refused is not None:
            return refused
        return await _answer(_warm, params.get("checkpoint"))


def _warm(name: object) -> dict[str, Any]:
    try:
        source = source_of(str(name))
    except FileNotFoundError as error:
        raise SidecarRefused("CATALOG_ENTRY_UNKNOWN", str(error), " ") from error
    entry = plugin().catalog.entry(source.path, lambda: None)
    return plugin().relay.change("engine.warm", Wanted(entry["id"], ()).as_params())


async def _body(request: web.Request) -> tuple[dict[str, Any], web.Response | None]:
    refused = refuse(request)
    if refused is not None:
        return {}, refused
    body = await request.content.read(MAX_BODY_BYTES + 1)
    params = _object(body) if len(body) <= MAX_BODY_BYTES else None
    if params is None:
        return {}, _error(400, "PAGE_BODY_INVALID", "Expected one small JSON object.")
    return params, None


def _object(text: str | bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


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


async def _answer(work: Callable[..., dict[str, Any]], *arguments: Any) -> web.Response:
    """Runs blocking work off the event loop, which also draws every other page."""
    try:
        return web.json_response(await asyncio.get_running_loop().run_in_executor(None, work, *arguments))
    except RelayRefused:
        return _error(404, "PAGE_CALL_UNKNOWN", "Pages have no such call.")
    except SidecarError as error:
        return _error(503, error.code, str(error))


def _error(status: int, code: str, message: str) -> web.Response:
    return web.json_response({"code": code, "message": message}, status=status)
