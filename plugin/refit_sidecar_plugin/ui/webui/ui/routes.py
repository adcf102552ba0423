"""The page's door in A1111 and Forge: routes of the UI's own server under /refit-sidecar/. No token reaches the browser.

Only calls of the relay's list go on to the sidecar; changes need a JSON body from a page of the same origin; whoever may not use the UI may not call.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, RedirectResponse, Response
from modules import sd_models, shared
from starlette.concurrency import run_in_threadpool

from ....client import SidecarRefused
from ....engine import Wanted
from ....service import door
from ..plugin import plugin
from .access import may_call

PREFIX = "/refit-sidecar"
WEB = Path(__file__).resolve().parents[4] / "web"
TYPES = {".mjs": "text/javascript", ".css": "text/css", ".html": "text/html"}


def add_routes(app: FastAPI) -> None:
    """For each server that the UI starts; "Reload UI" starts another one."""
    pages = _pages()

    def guarded(work: Callable[[Request], dict[str, Any]]) -> Callable[[Request], Any]:
        async def reading(request: Request) -> Response:
            return await _answer(work, request) if _allowed(app, request) else _unauthorized()

        return reading

    def changing(work: Callable[[Request, dict[str, Any]], dict[str, Any]]) -> Callable[[Request], Any]:
        async def change(request: Request) -> Response:
            if not _allowed(app, request):
                return _unauthorized()
            try:
                door.check_change(request.headers)
                params = door.body_object(await _body(request))
            except door.PageRefused as error:
                return _response(*door.refusal(error))
            return await _answer(work, request, params)

        return change

    async def web(path: str) -> Response:
        file = pages.get(path)
        if file is None:
            return _response(*door.refusal(door.PageRefused(404, "PAGE_FILE_UNKNOWN", "There is no such file.")))
        content = await run_in_threadpool(file.read_bytes)
        return Response(content, media_type=TYPES[file.suffix], headers={"Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"})

    async def sign_in(request: Request) -> Response:
        """Lets the browser ask for a name of --api-auth, which it then sends with every call of the page."""
        if not _allowed(app, request):
            return Response("Sign in with a name of --api-auth.", 401, {"WWW-Authenticate": 'Basic realm="Refit Sidecar"'})
        return RedirectResponse("../?__theme=dark" if request.query_params.get("__theme") == "dark" else "../", 303)

    app.add_api_route(f"{PREFIX}/facts", guarded(_facts), methods=["GET"], include_in_schema=False)
    app.add_api_route(f"{PREFIX}/read/{{method}}", guarded(_read), methods=["GET"], include_in_schema=False)
    app.add_api_route(f"{PREFIX}/change/{{method}}", changing(_change), methods=["POST"], include_in_schema=False)
    app.add_api_route(f"{PREFIX}/warm", changing(_warm), methods=["POST"], include_in_schema=False)
    app.add_api_route(f"{PREFIX}/sign-in", sign_in, methods=["GET"], include_in_schema=False)
    app.add_api_route(f"{PREFIX}/web/{{path:path}}", web, methods=["GET"], include_in_schema=False)


def _facts(request: Request) -> dict[str, Any]:
    """Connection, last run and events (those after the first `after`), and what the accordion shows."""
    after = request.query_params.get("after", "0")
    service = plugin()
    return {**service.facts.snapshot(int(after) if after.isdecimal() else 0), "view": service.status.view.as_dict()}


def _read(request: Request) -> dict[str, Any]:
    return plugin().relay.read(request.path_params["method"], door.query_object(request.query_params.get("params", "{}")))


def _change(request: Request, params: dict[str, Any]) -> dict[str, Any]:
    return plugin().relay.change(request.path_params["method"], params)


def _warm(_: Request, params: dict[str, Any]) -> dict[str, Any]:
    """`{"checkpoint": title}` as the UI lists it, or null for the one that is selected; the page knows no ids of files. Answers with its name, too."""
    name = params.get("checkpoint")
    chosen = sd_models.get_closet_checkpoint_match(str(shared.opts.sd_model_checkpoint if name is None else name))
    if chosen is None:
        raise SidecarRefused(
            "CATALOG_ENTRY_UNKNOWN", "The UI lists no such checkpoint.", "Refresh its list of checkpoints, and select one."
        )
    entry = plugin().catalog.entry(os.path.abspath(chosen.filename), lambda: None)
    return {
        **plugin().relay.change("engine.warm", Wanted(entry["id"], (), host=plugin().status.view.host).as_params()),
        "checkpoint": chosen.name,
    }


def _pages() -> dict[str, Path]:
    """The files that pages load, by path; nothing else of the folder is served."""
    return {path.relative_to(WEB).as_posix(): path for path in (WEB / "dashboard.html", *(WEB / "refit").glob("*")) if path.suffix in TYPES}


def _allowed(app: FastAPI, request: Request) -> bool:
    return may_call(app, request, getattr(shared.cmd_opts, "api_auth", None))


async def _body(request: Request) -> bytes:
    """At most one byte more than is allowed."""
    body = b""
    async for chunk in request.stream():
        body += chunk[: door.MAX_BODY_BYTES + 1 - len(body)]
        if len(body) > door.MAX_BODY_BYTES:
            break
    return body


async def _answer(work: Callable[..., dict[str, Any]], *arguments: Any) -> Response:
    return _response(*await run_in_threadpool(door.answer, work, *arguments))


def _response(status: int, data: dict[str, Any]) -> Response:
    return JSONResponse(data, status, {"Cache-Control": "no-store"})


def _unauthorized() -> Response:
    """Without a challenge, else every page of the UI would open with the browser's question for a password."""
    return _response(
        *door.refusal(door.PageRefused(401, "PAGE_SIGN_IN", "This UI asks for a name and a password (--api-auth or --gradio-auth)."))
    )
