"""How to serve."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bcd_edge.live.optics import Optics
from bcd_edge.live.sources import Source
from bcd_edge.slides.settings import SlideSettings


@dataclass(frozen=True, slots=True)
class Camera:
    """What is shown live.

    Attributes:
        source: of the frames.
        optics: camera and objective.
        objective: its name, if one was given.
    """

    source: Source
    optics: Optics
    objective: str | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """How to serve a folder of results.

    Attributes:
        results: the folder.
        model: arguments of `Classifier.load`, without the purpose.
        inbox: where a watcher's pictures lie; as its heartbeat says if not given.
        hosts: names under which it is reached; requests for others are refused, because another site may have led to them.
        is_encrypted: whether browsers reach it by HTTPS, and cookies are for that alone.
        blinded: whether the answer is hidden until the first opinion.
        max_body: bytes of a request.
        max_waiting: pictures that wait for an answer before more are refused.
        max_waiting_each: the same for one person or machine.
        max_waiting_bytes: bytes of all pictures that wait.
        slides: how whole slides are classified; the server says where their files go.
        camera: what is shown live, if anything.
        timeout_s: seconds until a body must be complete, and then again until the answer.
    """

    results: Path
    model: dict[str, Any] = field(default_factory=dict)
    inbox: Path | None = None
    hosts: tuple[str, ...] = ("127.0.0.1", "localhost", "[::1]")
    is_encrypted: bool = False
    blinded: bool = False
    max_body: int = 64_000_000
    max_waiting: int = 256
    max_waiting_each: int = 128
    max_waiting_bytes: int = 256_000_000
    slides: SlideSettings = field(default_factory=SlideSettings)
    camera: Camera | None = None
    timeout_s: float = 60.0
