"""A storage service (PS3.4, annex B): accepts images over the network and writes each into an inbox, whole or not at all.

An image is written to a hidden file while it arrives, so that memory does not grow with a slide. The sender is told that it is stored
only when it would survive a power cut: file and folder are flushed before. What it is not told so, it sends again, and an image that is
there already, with the same bytes, is not written twice.
"""

from __future__ import annotations

import io
import logging
import shutil
import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from weakref import WeakKeyDictionary

from bcd_edge.dicom import incoming, require_package
from bcd_edge.dicom.peers import LOCAL, Caller
from bcd_edge.dicom.tls import Tls
from bcd_edge.errors import UsageError
from bcd_edge.readers import dicom

log = logging.getLogger(__name__)

# Status codes of C-STORE (PS3.4, B.2.3) and reasons of A-ASSOCIATE-RJ (PS3.8, 9.3.4).
SUCCESS, OUT_OF_RESOURCES, CANNOT_UNDERSTAND = 0x0000, 0xA700, 0xC000
CALLING_TITLE, CALLED_TITLE = (0x01, 0x01, 0x03), (0x01, 0x01, 0x07)
ASSOCIATIONS: Final = 4
# Where there is no room, a file of so many bytes is awaited and refused; a larger one is cut off.
AWAITED_BYTES: Final = 2**26
# That the system needs for a file's own entry.
ENTRY_BYTES: Final = 2**20
# Between two looks at slides that may be complete.
PAUSE_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class Settings:
    """How to receive.

    Attributes:
        port: where to listen.
        address: where to listen.
        title: own AE title, which callers must name.
        allowed: who may call.
        min_free: bytes that must stay free where the inbox is.
        tls: for callers that use it alone, if given.
        quiet_s: a slide is complete when nothing of it has arrived for so long.
    """

    port: int
    address: str = "127.0.0.1"
    title: str = "BCD_EDGE"
    allowed: Sequence[Caller] = LOCAL
    min_free: int = 0
    tls: Tls | None = None
    quiet_s: float = incoming.QUIET_S


class _PartialFile(io.BufferedWriter):
    """As pynetdicom writes into one of `tempfile`."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path, "x"))

    @property
    def file(self) -> _PartialFile:
        return self


@contextmanager
def receiving(inbox: Path, settings: Settings) -> Iterator[None]:
    """Accepts images while the context lasts.

    Raises:
        ProviderError: the extra `dicom` is not installed.
        UsageError: the address or port is not available, or a file of `tls` cannot be read.
    """
    require_package()
    from pynetdicom import AE, _config, dimse_messages, evt
    from pynetdicom.sop_class import Verification

    partial = inbox / incoming.PARTIAL
    shutil.rmtree(partial, ignore_errors=True)  # what was not whole when an earlier run was killed
    partial.mkdir(parents=True)
    _config.STORE_RECV_CHUNKED_DATASET = True
    dimse_messages.NamedTemporaryFile = lambda **_: _PartialFile(partial / uuid.uuid4().hex)  # in place of one on the system's own disk
    entity = AE(settings.title)
    entity.maximum_associations = ASSOCIATIONS
    entity.add_supported_context(Verification)
    for sop_class in (*dicom.CLASSES, dicom.WHOLE_SLIDE):
        entity.add_supported_context(sop_class, list(dicom.SYNTAXES))
    sizes: WeakKeyDictionary[Any, int] = WeakKeyDictionary()
    handlers = [
        (evt.EVT_REQUESTED, _check_caller, [settings]),
        (evt.EVT_DATA_RECV, _check_room, [sizes, inbox, settings]),
        (evt.EVT_DIMSE_RECV, _begin_message, [sizes]),
        (evt.EVT_C_STORE, _store, [inbox, settings]),
        (evt.EVT_CONN_CLOSE, _discard),
    ]
    context = settings.tls.server() if settings.tls else None
    try:
        server = entity.start_server((settings.address, settings.port), block=False, evt_handlers=handlers, ssl_context=context)
    except OSError as error:
        place = f"{settings.address}:{settings.port}"
        raise UsageError(f"DICOM cannot be received on {place} ({error.strerror or error}); give another --dicom-port.") from None
    stop = threading.Event()
    releasing = threading.Thread(target=_release, args=(inbox, settings, sizes, stop), name="bcd-edge slides")
    releasing.start()
    log.info("Receiving DICOM as %s on %s:%d%s.", settings.title, settings.address, settings.port, " over TLS" if settings.tls else "")
    try:
        yield
    finally:
        stop.set()
        releasing.join()
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


def _check_room(event: Any, sizes: WeakKeyDictionary[Any, int], inbox: Path, settings: Settings) -> None:
    """Hangs up on a caller before its file fills the disk."""
    size = sizes[event.assoc] = sizes.get(event.assoc, 0) + len(event.data)
    free = shutil.disk_usage(inbox).free
    if free < len(event.data) + ENTRY_BYTES or (size > AWAITED_BYTES and free < settings.min_free):
        log.warning("%s was cut off after %d bytes: there is no room for more.", event.assoc.requestor.address, size)
        event.assoc.dul.socket.close()


def _store(event: Any, inbox: Path, settings: Settings) -> int:
    """Puts one received image into its place, flushed; returns the status that the sender is told."""
    uid, received = str(event.request.AffectedSOPInstanceUID), event.dataset_path
    if not incoming.UID.fullmatch(uid):
        log.warning("An image with the UID %r was refused.", uid)
        return CANNOT_UNDERSTAND
    if shutil.disk_usage(inbox).free < settings.min_free:
        log.warning("%s was refused: there is no room for its %d bytes.", uid, received.stat().st_size)
        return OUT_OF_RESOURCES
    is_slide = event.request.AffectedSOPClassUID == dicom.WHOLE_SLIDE
    try:
        incoming.put(received, inbox, f"{uid}.dcm", incoming.folder_of(received, uid) if is_slide else None)
    except OSError as error:
        log.warning("%s could not be stored (%s).", uid, error.strerror or error)
        return OUT_OF_RESOURCES
    return SUCCESS


def _discard(event: Any) -> None:
    """Removes what a caller has left unfinished."""
    file = getattr(event.assoc.dimse.message, "_data_set_file", None)
    if file is not None:
        file.close()
        Path(file.name).unlink(missing_ok=True)


def _release(inbox: Path, settings: Settings, sizes: WeakKeyDictionary[Any, int], stop: threading.Event) -> None:
    """Hands on slides that are complete; while anything arrives, it may belong to any of them."""
    while not stop.wait(PAUSE_S):
        if any(size and association.is_established for association, size in list(sizes.items())):
            continue
        try:
            incoming.release(inbox, settings.quiet_s)
        except OSError as error:
            log.warning("A slide could not be moved into the inbox (%s); trying again.", error)
