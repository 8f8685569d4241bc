"""Delivers DICOM objects to an archive: C-STORE to an AE, or STOW-RS to a web address (PS3.18, 10.5)."""

from __future__ import annotations

import io
import json
import urllib.error
import urllib.request
import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from bcd_edge.dicom.peers import Peer
from bcd_edge.errors import OutputError

if TYPE_CHECKING:
    from pydicom import Dataset

TIMEOUT_S: Final = 30.0


def send(target: Peer | str, objects: Sequence[Dataset], *, title: str = "BCD_EDGE") -> None:
    """Delivers objects, all of them or with an error.

    Args:
        target: an AE, or the URL of a STOW-RS service up to `/studies`.
        objects: what is sent.
        title: own AE title.

    Raises:
        OutputError: the archive cannot be reached or did not store them.
    """
    if isinstance(target, Peer):
        _store(target, objects, title)
    else:
        _post(target, objects)


def _store(target: Peer, objects: Sequence[Dataset], title: str) -> None:
    from pynetdicom import AE

    entity = AE(title)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = entity.connection_timeout = TIMEOUT_S
    for sop_class, syntax in {(item.SOPClassUID, item.file_meta.TransferSyntaxUID) for item in objects}:
        entity.add_requested_context(sop_class, syntax)
    association = entity.associate(target.host, target.port, ae_title=target.title)
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
    return "could not be reached; check its address, port and network."


def _post(url: str, objects: Sequence[Dataset]) -> None:
    boundary = uuid.uuid4().hex
    parts = []
    for item in objects:
        buffer = io.BytesIO()
        item.save_as(buffer, enforce_file_format=True)
        parts.append(f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode() + buffer.getvalue() + b"\r\n")
    headers = {"Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}', "Accept": "application/dicom+json"}
    request = urllib.request.Request(f"{url.rstrip('/')}/studies", b"".join([*parts, f"--{boundary}--\r\n".encode()]), headers)
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
            failed = json.loads(response.read() or b"{}").get("00081198")
    except urllib.error.HTTPError as error:
        raise OutputError(f"{url} did not store the results (HTTP {error.code}); see its log.") from None
    except (OSError, ValueError) as error:
        raise OutputError(f"{url} could not be reached ({getattr(error, 'reason', None) or error}); check address and network.") from None
    if failed and failed.get("Value"):
        raise OutputError(f"{url} did not store {len(failed['Value'])} of {len(objects)} results; see its log.")
