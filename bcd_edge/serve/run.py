"""A server from start to end: what is opened and closed in which order, and where it may be reached."""

from __future__ import annotations

import ipaddress
import os
import signal
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Final

import uvicorn

from bcd_edge.classifier import Classifier
from bcd_edge.errors import UsageError
from bcd_edge.serve import app
from bcd_edge.serve.accounts import Accounts
from bcd_edge.serve.connections import timed
from bcd_edge.serve.engine import Engine
from bcd_edge.serve.live import Live
from bcd_edge.serve.settings import Settings
from bcd_edge.serve.store import Store

CONNECTIONS: Final = 512
KEEP_ALIVE_S: Final = 30
# Until the head of a request is complete.
HEAD_S: Final = 10.0
# For answers that are on their way when it is asked to stop.
SHUTDOWN_S: Final = 30


@dataclass(frozen=True, slots=True)
class Listening:
    """Where the server listens.

    Attributes:
        address: of an interface of this computer.
        port: 0 for any free one.
        certificate: file of the certificate chain for TLS.
        key: file of its private key.
        behind_proxy: whether a proxy on the way has TLS, and sends X-Forwarded-For and X-Forwarded-Proto.
    """

    address: str = "127.0.0.1"
    port: int = 8080
    certificate: Path | None = None
    key: Path | None = None
    behind_proxy: bool = False

    @property
    def is_local(self) -> bool:
        """Whether only this computer reaches it, directly."""
        try:
            return ipaddress.ip_address(self.address).is_loopback and not self.behind_proxy
        except ValueError:
            return self.address == "localhost" and not self.behind_proxy

    @property
    def is_encrypted(self) -> bool:
        """Whether browsers reach it by HTTPS."""
        return self.certificate is not None or self.behind_proxy

    def check(self, *, has_users: bool) -> None:
        """Whether it is safe to be reached there.

        Raises:
            UsageError: other computers would reach it without users, or without encryption.
        """
        if (self.certificate is None) != (self.key is None):
            raise UsageError("A certificate needs its key, and a key its certificate; give both --certificate and --key.")
        if self.certificate and self.key:
            _check_pair(self.certificate, self.key)
        if self.is_local:
            return
        if not has_users:
            raise UsageError(
                f"Other computers reach {self.address}, and no users are known; add one with: bcd-edge serve user add NAME RESULTS --role admin"
            )
        if not self.is_encrypted:
            raise UsageError(
                f"Other computers reach {self.address}, and passwords and pictures would cross the network unencrypted; "
                "give --certificate and --key, or --behind-proxy where a proxy has TLS."
            )


def _check_pair(certificate: Path, key: Path) -> None:
    """Reads both, as the server will.

    Raises:
        UsageError: they do not belong together, cannot be read, or need a pass phrase.
    """
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password=lambda: "")  # else OpenSSL asks the terminal
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        reason = error.strerror if isinstance(error, PermissionError) else getattr(error, "reason", None) or "no PEM, or the key has a pass phrase"
        fix = "give PEM files that belong together, the key without a pass phrase."
        raise UsageError(f"The certificate {certificate} cannot be used with the key {key} ({reason}); {fix}") from None


def serve(settings: Settings, listening: Listening, announce: Callable[[str], None]) -> None:
    """Serves until it is asked to stop by SIGTERM or Ctrl-C; then it answers what it has taken, and ends.

    Args:
        settings: what.
        listening: where.
        announce: called with the address as soon as requests are taken.

    Raises:
        BcdEdgeError: it cannot start.
    """
    with _bound(listening) as listener:
        store = Store(settings.results)
        accounts = Accounts(store, is_local=listening.is_local, is_encrypted=listening.is_encrypted)
        try:
            engine = Engine(settings, lambda: Classifier.load(**settings.model, purpose="throughput"))
            camera = Live(settings.camera, settings.model) if settings.camera else None
            server = _Server(_config(app.create(settings, store, engine, accounts, camera), listening, settings.timeout_s))
            server.stopping = camera.close if camera else lambda: None
            address = f"{'https' if listening.certificate else 'http'}://{_location(listener)}"
            server.announce = lambda: announce(f"{address}{accounts.link or '/'}")
            with _unraised():
                server.run(sockets=[listener])
        finally:
            accounts.close()
            store.close()


def _config(application: Any, listening: Listening, timeout_s: float) -> uvicorn.Config:
    return uvicorn.Config(
        application,
        http=timed(min(timeout_s, HEAD_S)),
        log_config=None,
        access_log=False,
        server_header=False,
        ws="none",
        lifespan="on",
        loop="asyncio",  # else it would be another one wherever uvloop happens to be installed
        limit_concurrency=CONNECTIONS,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=SHUTDOWN_S,
        ssl_certfile=listening.certificate and str(listening.certificate),
        ssl_keyfile=listening.key and str(listening.key),
        proxy_headers=listening.behind_proxy,
        forwarded_allow_ips="127.0.0.1" if listening.behind_proxy else None,
    )


@contextmanager
def _unraised() -> Iterator[None]:
    """At its end, uvicorn sends itself the signals again that ended it; here they have done their work."""
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, lambda number, frame: None) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Server(uvicorn.Server):
    """Says when requests are taken, and when it is asked to stop: a stream that does not end then would keep it."""

    announce: Callable[[], None]
    stopping: Callable[[], None]

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self.announce()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """See uvicorn."""
        self.stopping()
        super().handle_exit(sig, frame)


def _bound(listening: Listening) -> socket.socket:
    """Before anything slow, so that a port in use is said at once.

    Raises:
        UsageError: it cannot be had.
    """
    family = socket.AF_INET6 if ":" in listening.address else socket.AF_INET
    # with its protocol, without which asyncio leaves Nagle's algorithm on, and an answer takes 40 ms more
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((listening.address, listening.port))
    except OSError as error:
        listener.close()
        raise UsageError(f"{listening.address}:{listening.port} cannot be listened on ({error.strerror}); give another --port.") from None
    return listener


def _location(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
