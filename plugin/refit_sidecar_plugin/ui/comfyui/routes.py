"""The page's door: everything goes through ComfyUI's own server, under /refit/, and only calls of the relay's list go on to the sidecar."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from aiohttp import web

from ...client import SidecarRefused
from ...engine import Wanted
from ...service import door
from .nodes.inputs import source_of
from .plugin import plugin


def add_routes(server: Any) -> None:
    routes = server.routes

    @routes.get("/refit/facts")
    async def facts(_: web.Request) -> web.Response:
        return web.json_response(plugin().facts.snapshot())

    @routes.get("/refit/read/{method}")
    async def read(request: web.Request) -> web.Response:
        return await _answer(
            lambda: plugin().relay.read(request.match_info["method"], door.query_object(request.query.get("params", "{}")))
        )

    @routes.post("/refit/change/{method}")
    async def change(request: web.Request) -> web.Response:
        return await _change(request, lambda params: plugin().relay.change(request.match_info["method"], params))

    @routes.post("/refit/warm")
    async def warm(request: web.Request) -> web.Response:
        """`{"checkpoint": name}` as ComfyUI lists it; the page knows no ids of files."""
        return await _change(request, lambda params: _warm(params.get("checkpoint")))


def _warm(name: object) -> dict[str, Any]:
    try:
        source = source_of(str(name))
    except FileNotFoundError as error:
        raise SidecarRefused("CATALOG_ENTRY_UNKNOWN", str(error), " ") from error
    entry = plugin().catalog.entry(source.path, lambda: None)
    return plugin().relay.change("engine.warm", Wanted(entry["id"], ()).as_params())


async def _change(request: web.Request, work: Callable[[dict[str, Any]], dict[str, Any]]) -> web.Response:
    try:
        door.check_change(request.headers)
        params = door.body_object(await request.content.read(door.MAX_BODY_BYTES + 1))
    except door.PageRefused as error:
        return _response(*door.refusal(error))
    return await _answer(work, params)


async def _answer(work: Callable[..., dict[str, Any]], *arguments: Any) -> web.Response:
    return _response(*await asyncio.get_running_loop().run_in_executor(None, door.answer, work, *arguments))


def _response(status: int, data: dict[str, Any]) -> web.Response:
    return web.json_response(data, status=status)
