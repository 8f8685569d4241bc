"""How to run a bundle: one object, passed whole from the command line through plan and classifier to the engine."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What was asked for. `None` means not given, and nothing else does; `bcd_edge.plan` chooses what is not given.

    Attributes:
        provider: a name from `bcd_edge.plugins.names("bcd_edge.backends.providers")`.
        device: the provider's name of one of its devices, such as `GPU` of OpenVINO or `1` for the second CUDA card.
        precision: of the bundle's variant: `fp32`, `fp16` or `int8`.
        batch: images per inference; an engine opened without it takes any number.
        threads: CPU threads per inference.
        streams: inferences at the same time.
        cache: whether compiled models are kept in the user's cache folder; they are if not given.
        provider_options: name and value of options that only this provider has, see `OPTIONS` of its module.
    """

    provider: str | None = None
    device: str | None = None
    precision: str | None = None
    batch: int | None = None
    threads: int | None = None
    streams: int | None = None
    cache: bool | None = None
    provider_options: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Plan(RunOptions):
    """Options that can be run: provider, batch and streams are known. What is `None` is left to the engine."""

    provider: str
    batch: int = 1
    streams: int = 1
