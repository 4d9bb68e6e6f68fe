"""The page as the server gives it out: its files, from memory, and the headers that keep it to itself."""

import hashlib
import mimetypes
from collections.abc import Collection
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import NamedTuple
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}

_LOCAL_NAMES = ("127.0.0.1", "localhost", "::1")


class File(NamedTuple):
    """A file as it is given out."""

    body: bytes
    kind: str
    tag: str


def page_files() -> dict[str, File]:
    """Return every file of the page by its path."""
    found = dict(_walk(files("fulltape.dashboard") / "static", ""))
    return {"/": found["/index.html"], **found}


def static_handler(served: dict[str, File]) -> Handler:
    """Return what answers a request for one of the files."""

    async def answer(request: web.Request) -> web.Response:
        file = served.get(request.path)
        if file is None:
            return web.Response(status=404, text="there is no such page\n")
        if file.tag in request.headers.get("If-None-Match", ""):
            return web.Response(status=304, headers={"ETag": file.tag})
        return web.Response(body=file.body, content_type=file.kind, charset="utf-8", headers={"ETag": file.tag})

    return answer


def guard(allowed: Collection[str]) -> Middleware:
    """Return the middleware that refuses strangers.

    A page elsewhere on the web that a user's browser also shows can neither connect (its Origin is another) nor pose
    as this one under a name of its own that it lets point here (the Host is then that name).
    """
    names = {*_LOCAL_NAMES, *allowed}

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        host = request.headers.get("Host", "")
        origin = request.headers.get("Origin")
        if not allows_host(host, names):
            refusal = f"this server is not known as {host!r}; start it with --allow-host to add a name\n"
            return web.Response(status=403, text=refusal, headers=_HEADERS)
        if origin is not None and not same_origin(origin, host):
            return web.Response(status=403, text="only this server's own page may ask\n", headers=_HEADERS)
        return await handler(request)

    return check


async def add_headers(_: web.Request, response: web.StreamResponse) -> None:
    """Put the page's headers on every answer, the WebSocket's too."""
    response.headers.update(_HEADERS)


def allows_host(host: str, names: Collection[str]) -> bool:
    """Tell whether a Host header names this server."""
    try:
        return urlsplit(f"//{host}").hostname in names
    except ValueError:
        return False


def same_origin(origin: str, host: str) -> bool:
    """Tell whether an Origin header is that of a page from the server that the Host header names."""
    try:
        found = urlsplit(origin)
    except ValueError:
        return False
    return found.scheme in {"http", "https"} and found.netloc == host


def _walk(folder: Traversable, path: str) -> list[tuple[str, File]]:
    found = []
    for entry in folder.iterdir():
        place = f"{path}/{entry.name}"
        if entry.is_dir():
            found += _walk(entry, place)
        else:
            body = entry.read_bytes()
            found.append((place, File(body, _kind(entry.name), f'"{hashlib.sha256(body).hexdigest()[:16]}"')))
    return found


def _kind(name: str) -> str:
    if name.endswith((".js", ".mjs")):
        return "text/javascript"
    return mimetypes.guess_type(name)[0] or "text/plain"
