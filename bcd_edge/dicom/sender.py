"""Delivers DICOM objects to an archive: C-STORE to an AE, or STOW-RS to a web address (PS3.18, 10.5)."""

from __future__ import annotations

import base64
import io
import json
import ssl
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bcd_edge.dicom.peers import Peer
from bcd_edge.dicom.tls import Tls
from bcd_edge.errors import OutputError, UsageError

if TYPE_CHECKING:
    from pydicom import Dataset

TIMEOUT_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Archive:
    """Where objects go, and how.

    Attributes:
        target: an AE, or the URL of a STOW-RS service up to `/studies`.
        title: own AE title.
        tls: to an AE without TLS, to a URL with the system's authorities, if not given.
        credentials: file with `USER:PASSWORD` or a bearer token for a STOW-RS service; read at every delivery, so that a token may be renewed.
    """

    target: Peer | str
    title: str = "BCD_EDGE"
    tls: Tls | None = None
    credentials: Path | None = None

    def check(self) -> None:
        """Whether its files can be read, and what is secret stays so.

        Raises:
            UsageError: they cannot, or it would not.
        """
        if self.tls:
            self.tls.client()
        if self.credentials is None:
            return
        url = urllib.parse.urlsplit(self.target if isinstance(self.target, str) else "")
        if url.scheme != "https" and url.hostname not in ("localhost", "127.0.0.1", "::1"):
            raise UsageError("Credentials are sent to a URL with https:// alone, because others can read them on the way; give such a URL.")
        self.authorization()

    def authorization(self) -> str | None:
        """The HTTP header of this name.

        Raises:
            UsageError: the file cannot be read or is empty.
        """
        if self.credentials is None:
            return None
        try:
            text = self.credentials.read_text(encoding="utf-8").strip()
        except (OSError, ValueError) as error:
            raise UsageError(f"The credentials {self.credentials} cannot be read ({getattr(error, 'strerror', None) or error}).") from None
        if not text.isprintable() or not text:
            raise UsageError(f"{self.credentials} is not one line; write USER:PASSWORD or a bearer token into it.")
        return f"Basic {base64.b64encode(text.encode()).decode()}" if ":" in text else f"Bearer {text}"


def send(archive: Archive, objects: Sequence[Dataset]) -> None:
    """Delivers objects, all of them or with an error.

    Args:
        archive: where to.
        objects: what is sent.

    Raises:
        OutputError: the archive cannot be reached or did not store them.
        UsageError: a file that `archive` names cannot be read.
    """
    if isinstance(archive.target, Peer):
        _store(archive, archive.target, objects)
    else:
        _post(archive, archive.target, objects)


def _store(archive: Archive, target: Peer, objects: Sequence[Dataset]) -> None:
    from pynetdicom import AE

    entity = AE(archive.title)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = entity.connection_timeout = TIMEOUT_S
    for sop_class, syntax in {(item.SOPClassUID, item.file_meta.TransferSyntaxUID) for item in objects}:
        entity.add_requested_context(sop_class, syntax)
    tls = (archive.tls.client(), target.host) if archive.tls else None
    association = entity.associate(target.host, target.port, ae_title=target.title, tls_args=tls)
    if not association.is_established:
        raise OutputError(f"{target.title} at {target.host}:{target.port} {_refusal(association)}")
    try:
        for item in objects:
            status = association.send_c_store(item)
            if "Status" not in status or status.Status not in (0x0000, 0xB000, 0xB006, 0xB007):
                code = f"status {status.Status:04X}H" if "Status" in status else "no answer"
                raise OutputError(f"{target.title} at {target.host}:{target.port} did not store {item.SOPInstanceUID} ({code}); see its log.")
    except ValueError as error:
        raise OutputError(f"{target.title} at {target.host}:{target.port} takes no such objects ({error}); allow them there.") from None
    finally:
        association.release()


def _refusal(association: Any) -> str:
    """Why there is no association, and what to do."""
    if association.is_rejected:
        return "rejected the association; check its AE title, and that it allows this one to send."
    if association.rejected_contexts:
        return "takes no Structured Reports or Secondary Captures; allow these classes there."
    return "could not be reached; check its address, port and network, and with TLS the certificates on both sides."


def _post(archive: Archive, url: str, objects: Sequence[Dataset]) -> None:
    boundary = uuid.uuid4().hex
    parts = []
    for item in objects:
        buffer = io.BytesIO()
        item.save_as(buffer, enforce_file_format=True)
        parts.append(f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode() + buffer.getvalue() + b"\r\n")
    headers = {"Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}', "Accept": "application/dicom+json"}
    request = urllib.request.Request(f"{url.rstrip('/')}/studies", b"".join([*parts, f"--{boundary}--\r\n".encode()]), headers)
    if authorization := archive.authorization():
        request.add_unredirected_header("Authorization", authorization)
    context = archive.tls.client() if archive.tls else ssl.create_default_context()
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S, context=context) as response:
            failed = json.loads(response.read() or b"{}").get("00081198")
    except urllib.error.HTTPError as error:
        advice = "check the file of credentials" if error.code in (401, 403) else "see its log"
        raise OutputError(f"{url} did not store the results (HTTP {error.code}); {advice}.") from None
    except (OSError, ValueError) as error:
        raise OutputError(f"{url} could not be reached ({getattr(error, 'reason', None) or error}); check address and network.") from None
    if failed and failed.get("Value"):
        raise OutputError(f"{url} did not store {len(failed['Value'])} of {len(objects)} results; see its log.")
