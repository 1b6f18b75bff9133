"""The view's web server: addresses to pages, for whoever has the token.

It listens on this machine alone. Every address begins with a token, so that no other user's program finds one; the
host's name is checked, so that no page elsewhere reaches it by a name of its own. Pages hold models' words, which are
hostile by design: they are escaped, and the headers allow no script but ours, and nothing from elsewhere.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cosmo_cli.view.pages import Pages
from stages.core.errors import CosmoError

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    # The address holds the token.
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}
REPORT_POLICY = (
    "sandbox allow-scripts; default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
)
"""Of a run's own report.html, one file with its own script. A stranger may have written it: it runs apart from us."""
_HOME = Path(__file__).parent
_FILES = {
    "report.css": _HOME.parents[1] / "stages" / "eval" / "report" / "report.css",
    "view.css": _HOME / "templates" / "view.css",
    "view.js": _HOME / "templates" / "view.js",
}
_IMAGE_PIXELS = 640
_LONGEST_WORD = 16_384
"""Bytes."""


def new_token() -> str:
    """A token that nobody guesses."""
    return secrets.token_urlsafe(16)


class Headers:
    """Puts our headers on every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Called by the server for each request."""

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                there = {name.lower() for name, _ in message["headers"]}
                message["headers"] = [
                    *message["headers"],
                    *((n.encode(), v.encode()) for n, v in HEADERS.items() if n.encode() not in there),
                ]
            await send(message)

        await self._app(scope, receive, with_headers)


def application(pages: Pages, token: str) -> Starlette:
    """The web application of these pages, at addresses below the token."""
    found: dict[str, Callable[[Request], Response]] = {
        "/": lambda request: _html(pages.runs()),
        "/training": lambda request: _page(pages.newest_training()),
        "/state": lambda request: _json(pages.library.state(request.query_params.get("run", ""))),
        "/static/{name}": _static,
        "/run/{key}/": lambda request: _page(pages.run(request.path_params["key"], request.query_params)),
        "/run/{key}/row": lambda request: _page(pages.row(request.path_params["key"], request.query_params)),
        "/run/{key}/image": lambda request: _image(pages, request),
        "/run/{key}/tokens": lambda request: _tokens(pages, request),
        "/run/{key}/choices": lambda request: _choices(pages, request),
        "/run/{key}/report": lambda request: _report(pages, request),
    }
    routes = [Route(f"/{token}{path}", _answering(pages, call)) for path, call in found.items()]

    async def say(request: Request) -> Response:
        return await _say(pages, request)

    routes.append(Route(f"/{token}/run/{{key}}/word", say, methods=["POST"]))
    # A name of another site that leads here has another host.
    hosts = Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"])
    return Starlette(routes=routes, middleware=[Middleware(Headers), hosts])


def _answering(pages: Pages, call: Callable[[Request], Response]) -> Callable[[Request], Response]:
    """The call, with a page for what went wrong: a damaged run is no reason to end."""

    def answer(request: Request) -> Response:
        try:
            return call(request)
        except CosmoError as error:
            return _html(pages.wrong(error.message, error.hint), 422)

    return answer


def _page(text: str | None) -> Response:
    return _html(text) if text is not None else _nothing()


def _html(text: str, status: int = 200) -> Response:
    # A stranger's JSON may hold half a surrogate pair, which UTF-8 can't.
    return HTMLResponse(text.encode("utf-8", "backslashreplace"), status)


def _json(value: Any) -> Response:
    # Spelled in ASCII, for the same reason.
    return Response(json.dumps(value), media_type="application/json")


def _nothing() -> Response:
    return Response("not found", status_code=404, media_type="text/plain")


def _static(request: Request) -> Response:
    path = _FILES.get(request.path_params["name"])
    return FileResponse(path) if path is not None else _nothing()


def _image(pages: Pages, request: Request) -> Response:
    from stages.eval.report.sample import scaled_image

    image = pages.rows.image(request.path_params["key"], _count(request, "row"), _count(request, "n"))
    if image is None or (made := scaled_image(image, _IMAGE_PIXELS)) is None:
        return _nothing()
    # A row of a run never changes.
    return Response(made[1], media_type=f"image/{made[0]}", headers={"cache-control": "private, max-age=3600"})


def _tokens(pages: Pages, request: Request) -> Response:
    found = pages.rows.tokens(request.path_params["key"], _count(request, "row"), _count(request, "index"))
    return _json(found) if found is not None else _nothing()


def _choices(pages: Pages, request: Request) -> Response:
    found = pages.rows.choices(request.path_params["key"], _count(request, "row"), _count(request, "index"))
    return _json(found) if found is not None else _nothing()


async def _say(pages: Pages, request: Request) -> Response:
    """Keep a word: the one request that writes, taken from our own pages alone."""
    # Another site's page can't name itself ours here, and without this header a browser asks before it sends JSON.
    if request.headers.get("origin", "") != f"http://{request.headers['host']}":
        return Response("not from this page", status_code=403, media_type="text/plain")
    body = b""
    async for part in request.stream():
        if len(body := body + part) > _LONGEST_WORD:
            return Response("too long", status_code=413, media_type="text/plain")
    try:
        asked = json.loads(body)
        row, index, verdict, why = (asked[name] for name in ("row", "index", "verdict", "why"))
        if not (type(row) is type(index) is int and type(verdict) is type(why) is str):
            raise ValueError("a field has the wrong type")
        said = await run_in_threadpool(pages.rows.say, request.path_params["key"], row, index, verdict, why.strip())
    except (ValueError, KeyError, TypeError, RecursionError):
        return Response("no word", status_code=400, media_type="text/plain")
    except CosmoError as error:
        return Response(error.message, status_code=422, media_type="text/plain")
    except OSError as error:
        return Response(f"it can't be kept: {error.strerror}", status_code=507, media_type="text/plain")
    return _json({"said": said}) if said is not None else _nothing()


def _report(pages: Pages, request: Request) -> Response:
    path = pages.report(request.path_params["key"])
    if path is None:
        return _nothing()
    return FileResponse(path, media_type="text/html", headers={"content-security-policy": REPORT_POLICY})


def _count(request: Request, name: str) -> int:
    text: Any = request.query_params.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 12 else -1


def serve(app: Starlette, port: int, ready: Callable[[int], None]) -> None:
    """Serve on this machine until Ctrl-C; `ready` is told the port. OSError where it is taken."""
    import socket

    import uvicorn

    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", port))
        # Whoever is told the address may ask at once.
        listening.listen()
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off"))
        ready(listening.getsockname()[1])
        server.run(sockets=[listening])
