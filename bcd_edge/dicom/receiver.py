"""A storage service (PS3.4, annex B): accepts images over the network and writes each into an inbox, whole or not at all.

The sender is told that an image is stored only when it would survive a power cut: file and folder are flushed before. What it is
not told so, it sends again, and an image that is there already, with the same bytes, is not written twice.
"""

from __future__ import annotations

import logging
import re
import shutil
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from weakref import WeakKeyDictionary

from bcd_edge.dicom import require_package
from bcd_edge.dicom.peers import LOCAL, Caller
from bcd_edge.errors import UsageError
from bcd_edge.readers import dicom
from bcd_edge.readers.raster import MAX_BYTES
from bcd_edge.system.atomic import atomic_write, flush_folder

log = logging.getLogger(__name__)

# Status codes of C-STORE (PS3.4, B.2.3) and reasons of A-ASSOCIATE-RJ (PS3.8, 9.3.4).
SUCCESS, OUT_OF_RESOURCES, CANNOT_UNDERSTAND = 0x0000, 0xA700, 0xC000
CALLING_TITLE, CALLED_TITLE = (0x01, 0x01, 0x03), (0x01, 0x01, 0x07)
# Associations at a time: each holds the image that it receives in memory.
ASSOCIATIONS: Final = 4
# Hidden, so that a scan passes over what is not whole yet.
PARTIAL: Final = ".dicom"
UID: Final = re.compile(r"(?=.{1,64}$)[0-9]+(\.[0-9]+)*")
# Two callers may send the same image at the same time.
WRITING: Final = threading.Lock()


@dataclass(frozen=True, slots=True)
class Settings:
    """How to receive.

    Attributes:
        port: where to listen.
        address: where to listen.
        title: own AE title, which callers must name.
        allowed: who may call.
        min_free: bytes that must stay free where the inbox is.
    """

    port: int
    address: str = "127.0.0.1"
    title: str = "BCD_EDGE"
    allowed: Sequence[Caller] = LOCAL
    min_free: int = 0


@contextmanager
def receiving(inbox: Path, settings: Settings) -> Iterator[None]:
    """Accepts images while the context lasts.

    Raises:
        ProviderError: the extra `dicom` is not installed.
        UsageError: the address or port is not available.
    """
    require_package()
    from pynetdicom import AE, evt
    from pynetdicom.sop_class import Verification

    shutil.rmtree(inbox / PARTIAL, ignore_errors=True)  # what was not whole when an earlier run was killed
    (inbox / PARTIAL).mkdir(parents=True)
    entity = AE(settings.title)
    entity.maximum_associations = ASSOCIATIONS
    entity.add_supported_context(Verification)
    for sop_class in dicom.CLASSES:
        entity.add_supported_context(sop_class, list(dicom.SYNTAXES))
    sizes: WeakKeyDictionary[Any, int] = WeakKeyDictionary()
    handlers = [
        (evt.EVT_REQUESTED, _check_caller, [settings]),
        (evt.EVT_DATA_RECV, _check_size, [sizes]),
        (evt.EVT_DIMSE_RECV, _begin_message, [sizes]),
        (evt.EVT_C_STORE, _store, [inbox, settings]),
    ]
    try:
        server = entity.start_server((settings.address, settings.port), block=False, evt_handlers=handlers)
    except OSError as error:
        place = f"{settings.address}:{settings.port}"
        raise UsageError(f"DICOM cannot be received on {place} ({error.strerror or error}); give another --dicom-port.") from None
    log.info("Receiving DICOM as %s on %s:%d.", settings.title, settings.address, settings.port)
    try:
        yield
    finally:
        server.shutdown()


def _check_caller(event: Any, settings: Settings) -> None:
    """Rejects an association with a peer that may not call, or that calls another AE."""
    requestor = event.assoc.requestor
    calling, called, address = requestor.primitive.calling_ae_title.strip(), requestor.primitive.called_ae_title.strip(), requestor.address
    if called != settings.title:
        reason, advice = CALLED_TITLE, f"this one is {settings.title}, see --dicom-title"
    elif not any(allowed.matches(calling, address) for allowed in settings.allowed):
        reason, advice = CALLING_TITLE, f"to allow it: --dicom-allow {calling}@{address}"
    else:
        return
    log.warning("%s at %s called %s and was rejected; %s", calling, address, called, advice)
    event.assoc.acse.send_reject(*reason)
    event.assoc.kill()


def _begin_message(event: Any, sizes: WeakKeyDictionary[Any, int]) -> None:
    sizes[event.assoc] = 0


def _check_size(event: Any, sizes: WeakKeyDictionary[Any, int]) -> None:
    """Hangs up on a caller that sends more than the largest file, before it fills the memory."""
    sizes[event.assoc] = sizes.get(event.assoc, 0) + len(event.data)
    if sizes[event.assoc] > MAX_BYTES:
        log.warning("%s sent more than %d bytes at once and was cut off.", event.assoc.requestor.address, MAX_BYTES)
        event.assoc.dul.socket.close()


def _store(event: Any, inbox: Path, settings: Settings) -> int:
    """Writes one image, flushed; returns the status that the sender is told."""
    uid, data = str(event.request.AffectedSOPInstanceUID), event.encoded_dataset()
    if not UID.fullmatch(uid):
        log.warning("An image with the UID %r was refused.", uid)
        return CANNOT_UNDERSTAND
    if shutil.disk_usage(inbox).free - len(data) < settings.min_free:
        log.warning("%s was refused: there is no room for its %d bytes.", uid, len(data))
        return OUT_OF_RESOURCES
    try:
        _write(inbox / f"{uid}.dcm", data, inbox / PARTIAL)
    except OSError as error:
        log.warning("%s could not be stored (%s).", uid, error.strerror or error)
        return OUT_OF_RESOURCES
    return SUCCESS


def _write(path: Path, data: bytes, partial: Path) -> None:
    with WRITING:
        if path.exists() and path.stat().st_size == len(data) and path.read_bytes() == data:
            flush_folder(path.parent)  # the run that wrote it may have ended before
        else:
            atomic_write(path, data, temporary=partial, durable=True)
