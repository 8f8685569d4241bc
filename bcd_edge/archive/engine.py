"""Shards through a classifier in one continuous stream: the next shard is read while the last pictures of one are answered."""

from __future__ import annotations

import hashlib
import itertools
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Final

from bcd_edge import pipeline
from bcd_edge.archive.contents import Place
from bcd_edge.archive.folders import Folder
from bcd_edge.archive.items import Item
from bcd_edge.archive.settings import Answers, Work
from bcd_edge.archive.stores import Reader, is_url, refreshed, store_of
from bcd_edge.classifier import Classifier, Embedding
from bcd_edge.errors import InputError, UsageError
from bcd_edge.options import RunOptions
from bcd_edge.pictures import HashedBytes, Picture, decode
from bcd_edge.readers import raster, slide
from bcd_edge.readers.codecs import tiff
from bcd_edge.records import Record
from bcd_edge.slides.settings import SlideSettings
from bcd_edge.system import machine

Claim = Callable[[bytes, Place], Place | None]

# A read from a store mostly waits, so there are more threads than cores; and with its retries it may take this long.
REMOTE_DECODERS: Final = 16
REMOTE_TIMEOUT_S: Final = 600.0


def no_claim(content: bytes, place: Place) -> Place | None:
    """A claim that lets every row compute its content."""
    return None


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
        embeddings: for each input, where they are asked for.
        patients: patient and slide that the header of a file tells, by index.
        slides: indices of whole slides.
        left: number of inputs without an answer.
    """

    number: int
    first_row: int
    items: list[Item]
    answers: list[Record | Copied | None] = field(default_factory=list)
    embeddings: list[Embedding | None] = field(default_factory=list)
    patients: dict[int, tuple[str | None, str | None]] = field(default_factory=dict)
    slides: set[int] = field(default_factory=set)
    left: int = 0

    def __post_init__(self) -> None:
        self.answers = [None] * len(self.items)
        self.embeddings = [None] * len(self.items)
        self.left = len(self.items)


class Engine:
    """A classifier with what it needs to answer shards."""

    def __init__(self, answers: Answers, work: Work, claim: Claim, folder: Folder, *, options: RunOptions | None = None) -> None:
        """Loads a classifier.

        Args:
            answers: what decides the rows.
            work: how the work is done.
            claim: see `bcd_edge.archive.contents.ContentIndex.claim`.
            folder: of the data set, for the files of whole slides.
            options: in place of those of `work`.

        Raises:
            BundleError: the bundle is damaged.
            ProviderError: no engine runs.
            UsageError: embeddings are asked for, and the bundle gives none.
        """
        options = options or work.options
        self.classifier = Classifier.load(work.bundle, options, threshold=answers.threshold, purpose="throughput", **answers.triage)
        if answers.embeddings and not self.classifier.bundle.embedding_size:
            raise UsageError(f"{self.classifier.bundle.name} gives no embeddings; leave out --embeddings, or give another bundle.")
        self.reader = Reader(work.max_rate)
        self._claim, self._answers, self._folder = claim, answers, folder

    def run(self, shards: Iterable[Shard]) -> Iterator[Shard]:
        """Yields shards, which are read as needed, in their order, when all of their inputs have an answer."""
        rest = iter(shards)
        first = list(itertools.islice(rest, 1))
        is_remote = any(map(is_url, [*self._answers.sources, *(item.path for shard in first for item in shard.items)]))
        pictures = (
            ((shard, index), partial(self._read, shard, index)) for shard in itertools.chain(first, rest) for index in range(len(shard.items))
        )
        decoders = max(REMOTE_DECODERS, 2 * machine.cores()) if is_remote else None
        timeout_s = REMOTE_TIMEOUT_S if is_remote else pipeline.TIMEOUT_S
        stream = self.classifier.embed_many(pictures, name=_name, decoders=decoders, timeout_s=timeout_s)
        with closing(stream):
            for (shard, index), (record, embedding) in stream:
                if index in shard.slides:
                    record = self._classify_slide(shard.items[index])
                shard.answers[index] = shard.answers[index] or record
                shard.embeddings[index] = embedding if self._answers.embeddings else None
                shard.left -= 1
                if not shard.left:
                    yield shard

    def answer(self, item: Item) -> tuple[Record, Embedding | None]:
        """The answer for one input, whoever else has its content, and its embedding."""
        with closing(self.classifier.embed_many([(item.name, partial(self._picture, item))])) as stream:
            return next(stream)[1]

    def _picture(self, item: Item) -> Picture:
        return _scaled(HashedBytes(*_hashed(self.reader.read(item))), item)

    def _read(self, shard: Shard, index: int) -> Picture:
        """The picture, in a decoder's thread.

        Raises:
            InputError: there is none, because it cannot be read, is a slide, or another row answers its content.
        """
        item = shard.items[index]
        if not item.error and _is_slide(item.path):
            shard.items[index] = refreshed(item, item.size)
            raise _slide_found(shard, index)
        data, sha256 = _hashed(self.reader.read(item))
        shard.items[index] = item = refreshed(item, len(data))
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
        pattern = self._answers.scale_from_name
        matched = pattern and pattern.pattern.search(item.name)
        scale = f"{item.um_per_pixel or ''} {matched[0] if matched else ''}".strip()
        return digest + scale.encode()

    def _classify_slide(self, item: Item) -> Record:
        from bcd_edge.slides.classify import classify

        asked = self._answers
        settings = SlideSettings(self._folder.slides, asked.field_um, asked.overlap, item.um_per_pixel or asked.um_per_pixel)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(item.path)
            if is_url(item.path):
                path = Path(folder, item.name.rstrip("/").rpartition("/")[2])
                store_of(item.path).download(item.path, path)
            record = classify(self.classifier, path, settings, name=item.name)
        self._folder.keep()
        return record


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
