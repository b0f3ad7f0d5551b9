"""The daemon's page, answered where a request asks for no WebSocket; and which pages may open one."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from websockets.asyncio.server import ServerConnection
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

STATIC = Path(__file__).parent / "static"
#: Everything that is sent: no name from outside ever becomes a path.
FILES = {
    "/": ("page.html", "text/html"),
    "/app.js": ("app.js", "text/javascript"),
    "/style.css": ("style.css", "text/css"),
}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)


def answer(connection: ServerConnection, request: Request) -> Response | None:
    """A file of the page, or a refusal; None lets the WebSocket's handshake go on."""
    if request.headers.get("Upgrade", "").lower() == "websocket":
        # A browser opens WebSockets for every site's pages, and says whose it is: nothing else keeps strangers out.
        return connection.respond(403, "This page is another site's.\n") if _is_foreign(request.headers) else None
    file, kind = FILES.get(request.path.partition("?")[0], ("", ""))
    if not file:
        return connection.respond(404, "There is no such page.\n")
    body = (STATIC / file).read_bytes()
    headers = {
        "Content-Type": f"{kind}; charset=utf-8",
        "Content-Length": str(len(body)),
        "Content-Security-Policy": POLICY,
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-cache",
        "Connection": "close",
    }
    return Response(200, "OK", Headers(headers), body)


def _is_foreign(headers: Headers) -> bool:
    origin = headers.get("Origin")  # programs send none
    try:
        return origin is not None and urlsplit(origin).netloc != headers.get("Host")
    except ValueError:
        return True
