"""How single settings are read and shown: URLs, volumes, proxies, secrets, counts; pure but for secret files.

Every function raises `ValueError` with a message that names the value (a secret's never) and the fix;
`settings` adds the variable's name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from posixpath import normpath
from urllib.parse import urlsplit

from pydantic import SecretBytes, SecretStr

from sessionsweep.model.ids import NAME

Network = IPv4Network | IPv6Network

MAKE_KEY = "python3 -c 'import secrets; print(secrets.token_urlsafe(32))'"
MIN_KEY_LENGTH = 32  # characters; 43 of token_urlsafe carry 256 bits (ASVS 11.5.1 asks for 128 at least)
_SECRET_QUERY = re.compile(r"([?&][^=&]*(?:pass|secret|token|user)[^=&]*=)[^&]*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class VolumeSpec:
    """A storage root as configured: its name on this node, its path, and whether it dies with the node."""

    name: str
    path: str
    ephemeral: bool = False

    def __str__(self) -> str:
        return f"{self.name}={self.path}{'?ephemeral' if self.ephemeral else ''}"


def redact_url(url: str) -> str:
    """`url` with the password, and every query value that looks like a secret, replaced by `***`."""
    head, separator, tail = url.partition("://")
    if not separator:
        return url if "@" not in url else "***"
    if "@" in tail:
        # The last @: in a URL whose password was not percent-encoded, an earlier one belongs to the password.
        userinfo, _, rest = tail.rpartition("@")
        user, colon, _ = userinfo.partition(":")
        tail = f"{user}:***@{rest}" if colon else f"***@{rest}"
    return head + separator + _SECRET_QUERY.sub(r"\1***", tail)


def parse_redis_url(value: object) -> str:
    """A `redis://`, `rediss://`, `unix://` or `memory://` URL, as far as it can be checked unconnected."""
    if not isinstance(value, str):
        raise ValueError(f"a URL is text, not {type(value).__name__}; write redis://host:6379/0")
    shown = repr(redact_url(value))
    parts = _split(value, shown)
    if parts.scheme in ("redis+sentinel", "redis+cluster"):
        raise ValueError(f"{shown}: {parts.scheme}:// is not yet supported; give one server as redis:// or rediss://")
    if parts.scheme not in ("redis", "rediss", "unix", "memory"):
        raise ValueError(f"{shown} has an unknown scheme; use redis://, rediss://, unix:// or memory://")
    if parts.scheme == "memory":
        if value != "memory://":
            raise ValueError(f"{shown}: nothing may follow memory://; it names this process's own memory")
    elif parts.scheme == "unix":
        if not parts.path.startswith("/"):
            raise ValueError(f"{shown} lacks the socket's absolute path; write unix:///run/redis/redis.sock?db=0")
    elif not parts.hostname:
        raise ValueError(f"{shown} lacks a host; write {parts.scheme}://host:6379/0")
    elif not re.fullmatch(r"/?|/\d+", parts.path):
        raise ValueError(f"{shown}: {parts.path!r} is not a database number; write {parts.scheme}://host:6379/0")
    _verified_tls(parts.scheme, parts.query, shown)
    return value


def parse_broker_url(value: object) -> str | None:
    """A Celery broker's URL, of any scheme that kombu knows; None where there is none."""
    if value is None:
        return None
    if not isinstance(value, str) or not re.match(r"[a-z][a-z0-9+.-]*://", value):
        shown = repr(redact_url(value)) if isinstance(value, str) else f"a {type(value).__name__}"
        raise ValueError(f"{shown} is not a broker URL; write redis://host:6379/1 or amqp://user:password@host//")
    shown = repr(redact_url(value))
    parts = _split(value, shown)
    _verified_tls(parts.scheme, parts.query, shown)
    return value


def broker_from_store(redis_url: str) -> str | None:
    """The broker that a store URL stands for, as kombu spells it; None for memory (no worker reaches it)."""
    if redis_url.startswith("memory:"):
        return None
    if redis_url.startswith("unix:"):
        return "redis+socket:" + redis_url.removeprefix("unix:").replace("?db=", "?virtual_host=").replace(
            "&db=", "&virtual_host="
        )
    return redis_url


@dataclass(frozen=True, slots=True)
class _Url:
    scheme: str
    hostname: str | None
    path: str
    query: str


def _split(url: str, shown: str) -> _Url:
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises for what is not a port
    except ValueError:
        # The parser's own message may quote a piece of the password, so it is not chained.
        parts = None
    if parts is None:
        raise ValueError(f"{shown} can't be parsed; percent-encode special characters in its user and password")
    if parts.fragment:
        raise ValueError(f"{shown} contains a #; write it as %23")
    return _Url(parts.scheme, parts.hostname, parts.path, parts.query)


def _verified_tls(scheme: str, query: str, shown: str) -> None:
    if scheme == "rediss" and re.search(r"(?:^|&)ssl_cert_reqs=(?:cert_)?(?:none|optional)(?:&|$)", query.lower()):
        raise ValueError(
            f"{shown} switches off TLS verification (ASVS 12.3); name your authority with ssl_ca_certs=/path instead"
        )


def parse_volumes(value: object) -> tuple[VolumeSpec, ...]:
    """Volumes from `name=/path,other=/path?ephemeral`, a mapping of names to paths, or `VolumeSpec`s.

    Names match `ids.NAME`; paths are absolute, without `..`, commas, question marks or line breaks, and none
    is, or lies inside, another.
    """
    specs: list[VolumeSpec]
    if isinstance(value, str):
        specs = [_volume_text(item) for item in map(str.strip, value.split(",")) if item]
    elif isinstance(value, Mapping):
        specs = [VolumeSpec(str(name), str(path)) for name, path in value.items()]
    elif isinstance(value, Iterable):
        specs = []
        for item in value:
            if not isinstance(item, VolumeSpec):
                raise ValueError(f"{item!r} is not a VolumeSpec; write 'name=/path' or VolumeSpec('name', '/path')")
            specs.append(item)
    else:
        raise ValueError(f"{value!r} is not a list of volumes; write name=/path,other=/path?ephemeral")
    checked: list[VolumeSpec] = []
    for spec in specs:
        checked.append(_check_volume(spec, checked))
    return tuple(checked)


def _volume_text(text: str) -> VolumeSpec:
    name, equals, rest = text.partition("=")
    path, question, option = rest.partition("?")
    if not equals or not path:
        raise ValueError(f"{text!r} is not a volume; write name=/path, or name=/path?ephemeral")
    if question and option != "ephemeral":
        raise ValueError(f"{text!r} has the unknown option {option!r}; the only one is ?ephemeral")
    return VolumeSpec(name.strip(), path.strip(), bool(question))


def _check_volume(spec: VolumeSpec, others: Iterable[VolumeSpec]) -> VolumeSpec:
    if not NAME.match(spec.name):
        raise ValueError(
            f"{spec.name!r} can't name a volume; use 1 to 63 letters, digits, dots, dashes and underscores, "
            "a letter or digit first"
        )
    if not spec.path.startswith("/"):
        raise ValueError(f"{spec.path!r} of volume {spec.name} is not absolute; begin it with /")
    if ".." in spec.path.split("/") or re.search(r"[,?\x00-\x1f\x7f]", spec.path):
        raise ValueError(f"{spec.path!r} of volume {spec.name} may not contain '..', ',', '?' or control characters")
    path = "/" + normpath(spec.path).lstrip("/")
    if path == "/":
        raise ValueError(f"volume {spec.name} can't be the whole file system '/'; give it a folder of its own")
    for other in others:
        if other.name == spec.name:
            raise ValueError(f"the name {spec.name!r} stands twice ({other.path} and {path}); rename one")
        if f"{path}/".startswith(f"{other.path}/") or f"{other.path}/".startswith(f"{path}/"):
            raise ValueError(
                f"{path!r} of volume {spec.name} and {other.path!r} of volume {other.name} "
                "lie in one another; give each volume a folder of its own"
            )
    return VolumeSpec(spec.name, path, spec.ephemeral)


def parse_address(value: object) -> str:
    """Where to listen, as `host:port`; empty: nowhere. A port alone is on loopback."""
    host, _, port = str(value).strip().rpartition(":")
    if not host and not port:
        return ""
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ValueError(f"{value!r} is no place to listen; write a port (9108) or host:port (0.0.0.0:9108)")
    return f"{host.strip('[]') or '127.0.0.1'}:{int(port)}"


def parse_proxies(value: object) -> tuple[Network, ...] | None:
    """Networks whose forwarded headers are believed; `none` (an empty tuple): clients connect directly."""
    if value is None:
        return None
    if isinstance(value, IPv4Network | IPv6Network):
        value = (value,)
    if isinstance(value, str):
        if value.strip().lower() == "none":
            return ()
        value = [item for item in map(str.strip, value.split(",")) if item]
    if not isinstance(value, Iterable):
        raise ValueError(f"{value!r} is not a list of proxies; write addresses, networks (10.0.0.0/8) or none")
    return tuple(_network(item) for item in value)


def _network(item: object) -> Network:
    try:
        return ip_network(str(item))
    except ValueError:
        pass
    try:
        fix = f"did you mean {ip_network(str(item), strict=False)}?"
    except ValueError:
        fix = "write addresses (10.0.0.7), networks (10.0.0.0/8, fd00::/8) or none, separated by commas"
    raise ValueError(f"{str(item)!r} is not an address or network; {fix}")


def parse_keys(value: object) -> tuple[SecretBytes, ...]:
    """Signing keys from text (separated by commas or lines), bytes, or a list; no message quotes one."""
    if isinstance(value, SecretBytes | SecretStr):
        value = value.get_secret_value()
    if isinstance(value, bytes):
        value = [value]
    if isinstance(value, str):
        value = [key for key in map(str.strip, re.split(r"[,\r\n]", value)) if key]
    if not isinstance(value, list | tuple):
        raise ValueError(f"a key is text, not {type(value).__name__}; make one: {MAKE_KEY}")
    keys: list[bytes] = []
    for number, item in enumerate(value, 1):
        raw = item.get_secret_value() if isinstance(item, SecretBytes | SecretStr) else item
        key = raw.encode() if isinstance(raw, str) else raw
        if not isinstance(key, bytes):
            raise ValueError(f"key {number} is {type(raw).__name__}, not text; make one: {MAKE_KEY}")
        if len(key) < MIN_KEY_LENGTH:
            raise ValueError(
                f"key {number} has {len(key)} characters, fewer than {MIN_KEY_LENGTH}; make one: {MAKE_KEY}"
            )
        if key in keys:
            raise ValueError(f"key {number} stands there twice; list each key once, the signing one first")
        keys.append(key)
    return tuple(SecretBytes(key) for key in keys)


def parse_secret(value: object) -> SecretStr | None:
    """One secret without surrounding blanks; None where there is none."""
    if value is None:
        return None
    text = value.get_secret_value() if isinstance(value, SecretStr) else value
    if not isinstance(text, str) or not text.strip():
        raise ValueError("it is empty; leave it out, or give a long random text")
    return SecretStr(text.strip())


def read_secret_file(path: object) -> str:
    """The content of a secret's file (Docker and Kubernetes secrets are such), at most 64 KiB of UTF-8."""
    try:
        with open(str(path), encoding="utf-8") as file:
            text = file.read(65537)
    except (OSError, UnicodeDecodeError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or "not UTF-8 text"
        raise ValueError(f"{str(path)!r} can't be read ({reason}); name a readable text file") from None
    if not text.strip() or len(text) > 65536:
        raise ValueError(f"{str(path)!r} is empty or larger than 64 KiB; write the secret into it")
    return text


def parse_count(value: object) -> int:
    """A whole number, from an int or its decimal digits."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and re.fullmatch(r"\s*\d{1,15}\s*", value, re.ASCII):
        return int(value)
    raise ValueError(f"{value!r} is not a whole number; write digits only, like 100")


def parse_hooks(value: object) -> tuple[str, ...]:
    """Functions by name, from `module:function,other:function` or a list of such."""
    if isinstance(value, str):
        value = [item for item in map(str.strip, value.split(",")) if item]
    if not isinstance(value, list | tuple):
        raise ValueError(f"{value!r} is not a list of hooks; write module:function, separated by commas")
    for item in value:
        module, _, path = item.partition(":") if isinstance(item, str) else ("", "", "")
        if not all(part.isidentifier() for part in (*module.split("."), *path.split("."))):
            raise ValueError(f"{item!r} names no function; write module:function, like shop.events:tell")
    if len(set(value)) < len(value):
        raise ValueError(f"{next(item for item in value if value.count(item) > 1)!r} stands there twice; leave one out")
    return tuple(value)


def parse_name(value: object) -> str:
    """A node's name, as `ids.NAME` has it."""
    if not isinstance(value, str) or not NAME.match(value):
        raise ValueError(
            f"{value!r} can't name a node; use 1 to 63 letters, digits, dots, dashes and underscores, "
            "a letter or digit first, and keep it over restarts"
        )
    return value


def parse_namespace(value: object) -> str:
    """A namespace: 1 to 32 letters, digits, underscores or dashes."""
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9_-]{1,32}", value):
        raise ValueError(f"{value!r} is not a namespace; use 1 to 32 letters, digits, underscores or dashes")
    return value
