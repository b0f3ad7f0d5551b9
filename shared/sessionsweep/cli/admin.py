"""`admin`: serves the admin side over HTTP."""

from __future__ import annotations

from typing import Annotated

import typer

from sessionsweep.cli.output import note
from sessionsweep.errors import ConfigurationError


def admin(
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="The port.")] = 5005,
    quiet: Annotated[bool, typer.Option("--quiet", help="Say warnings and errors only.")] = False,
) -> None:
    """Serve the admin API until SIGINT or SIGTERM. It needs SESSIONSWEEP_ADMIN_TOKEN."""
    try:
        import uvicorn

        from sessionsweep.admin import create_admin
    except ModuleNotFoundError as error:
        raise ConfigurationError(f"{error.name} isn't installed: pip install 'sessionsweep[admin]'.") from None
    app = create_admin()
    if not quiet:
        note(f"http://{host}:{port}/admin/sessions (X-Admin-Token); described at /admin/openapi.json")
    # Forwarded headers are read by ourselves, from listed proxies only.
    level = "warning" if quiet else "info"
    uvicorn.run(app, host=host, port=port, log_level=level, proxy_headers=False, server_header=False, access_log=False)
