"""Where the other web nodes are reached: `VOICE_NOTES_NODES=node-a=http://127.0.0.1:5001,node-b=…`.

An address is a URL, or a path (`node-a=/at/node-a`) where one front server stands before all nodes. The session's
cookie must reach them: cookies of one host reach all its ports, and all paths below the cookie's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

from sessionsweep import ConfigurationError

VARIABLE = "VOICE_NOTES_NODES"


def parse_nodes(text: str) -> dict[str, str]:
    """Node names to addresses, without a slash at the end.

    Raises:
        ConfigurationError: names the part that is wrong.
    """
    nodes = {}
    for part in filter(None, map(str.strip, text.split(","))):
        name, _, address = part.partition("=")
        url = urlsplit(address)
        is_url = url.scheme in ("http", "https") and bool(url.netloc) and url.username is None
        is_path = not url.scheme and not url.netloc and url.path.startswith("/") and "\\" not in address
        if not name or not (is_url or is_path) or url.query or url.fragment:
            raise ConfigurationError(f"{VARIABLE}: {part!r} is not name=http://host:port or name=/path")
        nodes[name] = address.rstrip("/")
    return nodes


def elsewhere(nodes: Mapping[str, str], mounted_by: Iterable[str], here: str) -> str | None:
    """The address of a node that mounts a volume, other than this one; None if none is known."""
    return next((nodes[name] for name in mounted_by if name in nodes and name != here), None)


def origins(nodes: Mapping[str, str]) -> list[str]:
    """The nodes' origins, for a content security policy (paths are this origin's own)."""
    urls = [urlsplit(address) for address in nodes.values()]
    return sorted({f"{url.scheme}://{url.netloc}" for url in urls if url.netloc})
