"""`admin`: serves the admin side over HTTP."""

from __future__ import annotations

from contextlib import suppress
from types import FrameType
from typing import Annotated

import typer

from sessionsweep.cli.output import note
from sessionsweep.errors import ConfigurationError


def admin(
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="The port.")] = 5005,
    quiet: Annotated[bool, typer.Option("--quiet", help="Say warnings and errors only.")] = False,
) -> None:
    """Serve the dashboard and the admin API until SIGINT or SIGTERM. It needs SESSIONSWEEP_ADMIN_TOKEN."""
    try:
        import uvicorn

        from sessionsweep.admin import create_admin
    except ModuleNotFoundError as error:
        raise ConfigurationError(f"{error.name} isn't installed: pip install 'sessionsweep[admin]'.") from None
    app = create_admin()
    if not quiet:
        note(f"dashboard  http://{host}:{port}/admin/ (log in with a token)")
        note(f"API        http://{host}:{port}/admin/sessions (X-Admin-Token); described at /admin/openapi.json")

    class Server(uvicorn.Server):
        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            """Who follows the events is told at once: the server waits for every answer to end."""
            app.state.feed.close()
            super().handle_exit(sig, frame)

    # Forwarded headers are read by ourselves, from listed proxies only.
    level = "warning" if quiet else "info"
    config = uvicorn.Config(
        app, host=host, port=port, log_level=level, proxy_headers=False, server_header=False, access_log=False
    )
    server = Server(config)
    with suppress(KeyboardInterrupt):  # uvicorn hands a signal on once it has stopped
        server.run()
    if not server.started:  # the address is taken: uvicorn has said so
        raise typer.Exit(1)
