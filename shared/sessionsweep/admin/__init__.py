"""The admin side over HTTP, for whoever is on call: an API under `/admin`. Needs `pip install 'sessionsweep[admin]'`.

`sessionsweep admin` serves it alone; `create_admin()` is an ASGI app to mount into another one.
"""

from sessionsweep.admin.app import create_admin

__all__ = ["create_admin"]
