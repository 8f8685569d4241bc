"""Who may send pictures, and where results go: what is written as AE@ADDRESS and AE@HOST:PORT."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Final

from bcd_edge.errors import UsageError

TITLE: Final = re.compile(r"[\x20-\x5b\x5d-\x7e]{1,16}")  # PS3.5, VR AE
ANY: Final = "*"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who may send: an AE title, or any, from a network, such as `127.0.0.1/32`."""

    title: str
    network: ipaddress.IPv4Network | ipaddress.IPv6Network

    def matches(self, title: str, address: str) -> bool:
        """Whether a peer with this AE title at this address is meant."""
        return self.title in (ANY, title) and ipaddress.ip_address(address) in self.network


@dataclass(frozen=True, slots=True)
class Peer:
    """Where results go: an AE title at a host and port."""

    title: str
    host: str
    port: int


LOCAL: Final = (Caller(ANY, ipaddress.ip_network("127.0.0.1/32")),)


def title(text: str) -> str:
    """A checked AE title.

    Raises:
        UsageError: it is none.
    """
    if not TITLE.fullmatch(text) or not text.strip():
        raise UsageError(f"{text!r} is not an AE title; write 1 to 16 ASCII characters without a backslash, such as BCD_EDGE.")
    return text.strip()


def caller(text: str) -> Caller:
    """`AE@ADDRESS`, where AE may be * and ADDRESS may be a network, such as 10.1.2.0/24.

    Raises:
        UsageError: it is not.
    """
    name, _, address = text.rpartition("@")
    try:
        return Caller(title(name), ipaddress.ip_network(address))
    except ValueError:
        raise UsageError(f"{text!r} is not AE@ADDRESS; write for example SCANNER@10.1.2.3, or *@10.1.2.0/24 for any AE title there.") from None


def peer(text: str) -> Peer:
    """`AE@HOST:PORT`.

    Raises:
        UsageError: it is not.
    """
    name, _, place = text.rpartition("@")
    host, _, port = place.rpartition(":")
    if not name or not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise UsageError(f"{text!r} is not AE@HOST:PORT; write for example PACS@10.1.2.3:104.")
    return Peer(title(name), host.strip("[]"), int(port))


def target(text: str) -> Peer | str:
    """`AE@HOST:PORT`, or the URL of a STOW-RS service.

    Raises:
        UsageError: it is neither.
    """
    return text if text.startswith(("http://", "https://")) else peer(text)
