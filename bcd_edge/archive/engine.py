"""Shards through a classifier in one continuous stream: the next shard is read while the last pictures of one are answered."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Final

from bcd_edge import pipeline
from bcd_edge.archive.contents import Place
from bcd_edge.archive.items import Item
from bcd_edge.archive.stores import Reader, is_url, store_of
from bcd_edge.classifier import Classifier
from bcd_edge.errors import InputError
from bcd_edge.pictures import HashedBytes, Picture, decode
from bcd_edge.readers import raster, slide
from bcd_edge.readers.codecs import tiff
from bcd_edge.records import Record
from bcd_edge.slides.settings import SlideSettings
from bcd_edge.system import machine
from bcd_edge.triage.scale import NamePattern

Claim = Callable[[bytes, Place], Place | None]

# A read from a store mostly waits, so there are more threads than cores; and with its retries it may take this long.
REMOTE_DECODERS: Final = 16
REMOTE_TIMEOUT_S: Final = 600.0


@dataclass(frozen=True, slots=True)
class Copied:
    """An input with a content that another row answers."""

    owner: Place
    sha256: str


@dataclass(slots=True)
class Shard:
    """Items in work.

    Attributes:
        number: of the shard.
        first_row: number of its first input in the whole listing.
        items: the inputs.
        answers: for each input, once it is known.
        patients: patient and slide that the header of a file tells, by index.
        slides: indices of whole slides.
        left: number of inputs without an answer.
    """

    number: int
    first_row: int
    items: list[Item]
    answers: list[Record | Copied | None] = field(default_factory=list)
    patients: dict[int, tuple[str | None, str | None]] = field(default_factory=dict)
    slides: set[int] = field(default_factory=set)
    left: int = 0

    def __post_init__(self) -> None:
        self.answers = [None] * len(self.items)
        self.left = len(self.items)


class Engine:
    """A classifier with what it needs to answer shards."""

    def __init__(
        self, classifier: Classifier, reader: Reader, claim: Claim, slides: SlideSettings, scale_from_name: NamePattern | None = None
    ) -> None:
        """Takes a loaded classifier.

        Args:
            classifier: loaded for `throughput`.
            reader: reads files and objects.
            claim: see `bcd_edge.archive.contents.ContentIndex.claim`.
            slides: how whole slides are classified.
            scale_from_name: as the classifier has it: the same content at another scale has another answer.
        """
        self.classifier, self.reader = classifier, reader
        self._claim, self._slides, self._scale = claim, slides, scale_from_name

    def run(self, shards: Iterable[Shard], *, is_remote: bool = False) -> Iterator[Shard]:
        """Yields shards, in their order, when all of their inputs have an answer.

        Args:
            shards: read as needed.
            is_remote: whether reading mostly waits.
        """
        pictures = (((shard, index), partial(self._read, shard, index)) for shard in shards for index in range(len(shard.items)))
        decoders = max(REMOTE_DECODERS, 2 * machine.cores()) if is_remote else None
        timeout_s = REMOTE_TIMEOUT_S if is_remote else pipeline.TIMEOUT_S
        stream = self.classifier.classify_many(pictures, name=_name, decoders=decoders, timeout_s=timeout_s)
        with closing(stream):
            for (shard, index), record in stream:
                if index in shard.slides:
                    record = self._classify_slide(shard.items[index])
                shard.answers[index] = shard.answers[index] or record
                shard.left -= 1
                if not shard.left:
                    yield shard

    def answer(self, item: Item) -> Record:
        """The answer for one input, whoever else has its content."""
        try:
            return self.classifier.classify(_scaled(HashedBytes(*_hashed(self.reader.read(item))), item), name=item.name)
        except InputError as error:
            return self.classifier.failed(item.name, error)

    def _read(self, shard: Shard, index: int) -> Picture:
        """The picture, in a decoder's thread.

        Raises:
            InputError: there is none, because it cannot be read, is a slide, or another row answers its content.
        """
        item = shard.items[index]
        if not item.error and _is_slide(item.path):
            raise _slide_found(shard, index)
        data, sha256 = _hashed(self.reader.read(item))
        if is_url(item.path) and tiff.matches(data) and tiff.slide_reason(data):
            raise _slide_found(shard, index)
        if data[128:132] == b"DICM":
            header = raster.metadata(data)
            shard.patients[index] = header.patient, header.slide
        if owner := self._claim(self._content(sha256, item), Place(shard.number, index)):
            shard.answers[index] = Copied(owner, sha256)
            raise InputError("Another row answers this content.")
        return _scaled(HashedBytes(data, sha256), item)

    def _content(self, sha256: str, item: Item) -> bytes:
        """What decides the answer: the content and, where something else tells it, the scale."""
        digest = bytes.fromhex(sha256)
        matched = self._scale and self._scale.pattern.search(item.name)
        scale = f"{item.um_per_pixel or ''} {matched[0] if matched else ''}".strip()
        return digest + scale.encode()

    def _classify_slide(self, item: Item) -> Record:
        from bcd_edge.slides.classify import classify

        settings = replace(self._slides, um_per_pixel=item.um_per_pixel or self._slides.um_per_pixel)
        if not is_url(item.path):
            return classify(self.classifier, Path(item.path), settings, name=item.name)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, item.name.rstrip("/").rpartition("/")[2])
            store_of(item.path).download(item.path, path)
            return classify(self.classifier, path, settings, name=item.name)


def _name(key: tuple[Shard, int]) -> str:
    shard, index = key
    return shard.items[index].name


def _hashed(data: bytes) -> tuple[bytes, str]:
    return data, hashlib.sha256(data).hexdigest()


def _scaled(picture: HashedBytes, item: Item) -> Picture:
    """With the manifest's scale, where the file does not tell its own."""
    if item.um_per_pixel is None:
        return picture
    image = decode(picture)
    return replace(image, um_per_pixel=image.um_per_pixel or item.um_per_pixel)


def _is_slide(path: str) -> bool:
    return path.lower().endswith(slide.SUFFIXES) if is_url(path) else slide.recognises(path)


def _slide_found(shard: Shard, index: int) -> InputError:
    shard.slides.add(index)
    return InputError("A whole slide is classified by its tiles.")
