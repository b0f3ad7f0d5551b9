"""TLS to the store: the server is verified, and nothing is ever said in plain text instead (ASVS 12.3)."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from sessionsweep import AsyncSessions, Sessions, Settings, StoreUnavailableError
from support.nodes import KEY
from support.sockets import CLOSE_WAIT, connections


def certify(folder: Path, address: str = "127.0.0.1") -> Path:
    """A certificate for an address, and its own authority; with its key in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a store of this test")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = folder / f"{address}.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    pem.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return pem


class Terminator:
    """Speaks TLS with clients, and hands on what they say to a server, without the end of it unless `farewell`;
    `heard` is what arrived in plain text."""

    def __init__(self, upstream: str, certificate: Path | None, farewell: bool = True) -> None:
        self._farewell = farewell
        parts = urlsplit(upstream)
        self._to = (parts.hostname, parts.port)
        self._context = None
        if certificate is not None:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(certificate)
        self.heard = b""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"rediss://:{parts.password}@127.0.0.1:{self._listener.getsockname()[1]}/0"
        self._threads = [threading.Thread(target=self._serve)]
        self._sockets: list[socket.socket] = []
        self._threads[0].start()

    def close(self) -> None:
        """Stops serving."""
        self._listener.shutdown(socket.SHUT_RDWR)
        for one in self._sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        for one in (*self._sockets, self._listener):
            one.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            client.settimeout(10)
            try:
                if self._context is None:
                    self._sockets.append(client)
                    self.heard += client.recv(4096)
                    continue
                client = self._context.wrap_socket(client, server_side=True)
            except OSError:
                client.close()
                continue
            client.settimeout(None)
            server = socket.create_connection(self._to)
            self._sockets += [client, server]
            for pair in ((client, server), (server, client)):
                self._threads.append(threading.Thread(target=self._carry, args=pair))
                self._threads[-1].start()

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
            if self._farewell:
                target.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def terminate(redis_url: str) -> Iterator[Callable[..., Terminator]]:
    with contextlib.ExitStack() as stack:

        def make(certificate: Path | None, farewell: bool = True) -> Terminator:
            made = Terminator(redis_url, certificate, farewell)
            stack.callback(made.close)
            return made

        yield make


def settings(url: str, namespace: str) -> Settings:
    return Settings(redis_url=url, namespace=namespace, secret_key=KEY, socket_timeout=2)


async def test_a_server_that_the_named_authority_vouches_for_is_used(
    terminate: Callable[..., Terminator], namespace: str, tmp_path: Path
) -> None:
    certificate = certify(tmp_path)
    wanted = settings(f"{terminate(certificate).url}?ssl_ca_certs={certificate}", namespace)
    here, aio = Sessions(wanted), AsyncSessions(wanted)
    _, token = here.create(data={"x": 1})
    assert (await aio.open(token)).data == {"x": 1}
    await aio.close()
    here.close()


async def test_closing_waits_for_no_farewell(
    terminate: Callable[..., Terminator], namespace: str, tmp_path: Path
) -> None:
    certificate = certify(tmp_path)
    wanted = settings(f"{terminate(certificate, farewell=False).url}?ssl_ca_certs={certificate}", namespace)
    port = urlsplit(wanted.redis_url).port
    assert port is not None
    aio = AsyncSessions(wanted)
    await aio.create(data={"x": 1})
    assert len(connections(os.getpid(), port)) == 1
    await aio.close()
    assert not connections(os.getpid(), port) | connections(os.getpid(), port, CLOSE_WAIT)


@pytest.mark.parametrize("why", ["unknown authority", "another's certificate", "no TLS at all"])
async def test_any_other_is_refused_and_told_nothing(
    terminate: Callable[..., Terminator], namespace: str, tmp_path: Path, why: str
) -> None:
    mine = certify(tmp_path)
    query = "" if why == "unknown authority" else f"?ssl_ca_certs={mine}"
    if why == "another's certificate":
        mine = certify(tmp_path, "192.0.2.1")  # the same authority is trusted, for another address
        query = f"?ssl_ca_certs={mine}"
    server = terminate(None if why == "no TLS at all" else mine)
    wanted = settings(server.url + query, namespace)
    here, aio = Sessions(wanted), AsyncSessions(wanted)
    with pytest.raises(StoreUnavailableError):
        here.create(data={"x": 1})
    with pytest.raises(StoreUnavailableError):
        await aio.create(data={"x": 1})
    password = urlsplit(server.url).password
    assert password is not None
    assert password.encode() not in server.heard
    assert b"AUTH" not in server.heard
    assert b"HELLO" not in server.heard
    await aio.close()
    here.close()
